// The text of products of one row; gemv.h says what it does.
#pragma once

namespace preheat::codegen::cuda {

extern const char kGemvRows[];    // a warp's rows of weights
extern const char kGemvFma[];     // a row's product with x, by fused multiply-adds
extern const char kGemvMma[];     // the same by tensor cores
extern const char kGemvRing[];    // Stream: rows through a ring of shared-memory slots
extern const char kGemvDirect[];  // Stream: rows straight from memory
extern const char kGemvFinish[];  // the kernel

}  // namespace preheat::codegen::cuda
