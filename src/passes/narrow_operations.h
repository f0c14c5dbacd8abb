// The types of a graph that stays as it was captured, to be run operation by operation by libraries that
// multiply two factors of one type: every value has that type, except the residual stream, which must not be
// rounded layer by layer, and the logits.
//
//   rms_norm, linear, rotary, attention, silu, mul f32 -> dtype;  kv_cache f32 -> dtype
//   embedding, add, the logits: f32
#pragma once

#include "ir/graph.h"
#include "tensor/dtype.h"

namespace preheat::passes {

ir::Graph NarrowOperations(const ir::Graph& graph, tensor::DType dtype);

}  // namespace preheat::passes
