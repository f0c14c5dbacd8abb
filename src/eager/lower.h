// Lowers a captured graph operation by operation to launches of the module's kernels (kernel_table.h): the
// baseline that compiled programs are compared with. Nothing is fused; the same session runs it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "ir/graph.h"
#include "program/program.h"
#include "tensor/dtype.h"

namespace preheat::eager {

struct LowerOptions {
  std::string name;      // of the program: "prefill_any", "decode"
  int64_t max_rows = 0;  // 1: decode; 0: any length
  std::string target = "library:eager";
  // bf16: values between operations and the KV cache are bf16, as in a bf16 run of transformers, except the
  // residual stream and the logits, which are f32. f32: everything is f32 (weights are widened once).
  tensor::DType activations = tensor::DType::kF32;
};

// The type of activations for a checkpoint: bf16 for bf16 weights where the library multiplies bf16 (Module),
// else f32 (oneDNN 2.6 has no f16 on CPUs).
tensor::DType ActivationType(tensor::DType weights, bool multiplies_bf16);

// Errors: Unsupported for an operation that no kernel does (those that passes make). REQUIRES: a verified
// graph.
program::Program LowerEager(const ir::Graph& captured, const LowerOptions& options);

// Where a value or weight lies, for LowerBreak.
struct Place {
  program::Operand operand;
  tensor::DType dtype = tensor::DType::kF32;
  int64_t stride = 0;  // elements from row to row
};

// One operation as a launch of `library` (kernel_table.h) inside a program of compiled kernels: `place` says
// where its inputs and its result (asked for with the node itself) lie. nullopt where the library has no
// kernel for it apart from an eager program: operations that touch the KV cache, whose layout is the
// program's, and those that passes make.
std::optional<program::Launch> LowerBreak(const ir::Graph& graph, ir::NodeId node, std::string_view library,
                                          const std::function<Place(ir::NodeId)>& place);

}  // namespace preheat::eager
