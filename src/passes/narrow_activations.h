// bf16 where it costs no accuracy that the checkpoint has, and saves time: the inputs of matrix products, the
// values between regions that feed only products or attention, and the KV cache. Accumulators, norms, softmax
// and the residual stream stay fp32, so the error stays below transformers' own in bf16 (which narrows the
// residual too).
//
//   matmul {math = "f32"} -> {math = "bf16"};  q, attention and silu_mul results f32 -> bf16;  kv_cache f32
//   -> bf16
//
// Only where every matrix of the graph is stored as bf16: with finer weights, rounding the other factor would
// throw away what the checkpoint paid for, and no instruction multiplies fp16 by bf16.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph NarrowActivations(const ir::Graph& graph);

}  // namespace preheat::passes
