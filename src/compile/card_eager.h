// Eager programs for a card: the graph as captured, nothing fused, products by the library (eager's
// card_matmul.h) and each other operation by one small kernel that codegen has for it alone.
//
// The small kernels are compiled where they are not in the store yet, so NVRTC is needed; they are part of no
// program key and of no artifact.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "program/program.h"
#include "store/store.h"
#include "tensor/dtype.h"
#include "toolchain/compiler.h"

namespace preheat::compile {

struct CardEagerOptions {
  checkpoint::ModelConfig config;
  tensor::DType weight_dtype = tensor::DType::kBf16;
  // Of what weights are multiplied by, and of the KV cache: the weights' own, or f32.
  tensor::DType dtype = tensor::DType::kBf16;
  std::string target;                                         // "sm_90a"
  program::LogitRows logit_rows = program::LogitRows::kLast;  // of the prefill program
  bool may_compile = true;  // else kernels that the store does not have are kWouldCompile
  const toolchain::Compiler* compiler = nullptr;  // null: the one that this machine has for the target
};

struct CardEager {
  std::vector<program::Program> programs;  // "prefill_any" and "decode"
  int64_t compiled = 0;                    // kernels that the store did not have
  double compile_seconds = 0;
};

// The programs' code is in the store. Errors: NotFound where there is no NVRTC; ToolFailed; Unsupported for
// an operation that neither has.
CardEager MakeCardEager(store::Store& store, const CardEagerOptions& options);

}  // namespace preheat::compile
