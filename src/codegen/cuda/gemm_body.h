// The text of products of many rows; gemm.h says what they do.
#pragma once

namespace preheat::codegen::cuda {

extern const char kStageRowsKernel[];  // stages x, a block a row
extern const char kHandOnKernel[];     // hands x on as a product would, a block a row
extern const char kColumnPlaces[];     // which column the i-th of a list is
extern const char kFinishTileRow[];    // a row of finished sums, in shared memory, to the epilogue
extern const char kGemmMma[];
extern const char kGemmWarp[];

}  // namespace preheat::codegen::cuda
