// What bodies of attention on tensor cores share: a warp's softmax of 16 rows, position after position, with
// the fragments of MultiplyBf16. Wants kGroup and kTilePositions, the positions that it is given at once.
#pragma once

namespace preheat::codegen::cuda::attention {

extern const char kSoftmaxWords[];

}  // namespace preheat::codegen::cuda::attention
