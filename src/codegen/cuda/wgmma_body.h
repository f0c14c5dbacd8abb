// The text of the wgmma kernels; wgmma.h says what they do. In this order.
#pragma once

namespace preheat::codegen::cuda {

extern const char kWgmmaOpening[];
// Which columns a block's tile has, where they lie in the weights, and which of its sums are finished
// together: columns side by side; gate and up; pairs of columns in heads.
extern const char kWgmmaPlainColumns[];
extern const char kWgmmaListColumns[];
extern const char kWgmmaHeadColumns[];

// What sums are still to be multiplied by: nothing; or a row's scale, where x was handed on.
extern const char kWgmmaNoScales[];
extern const char kWgmmaScales[];

// The exchange of sums between blocks that share them, each of which finishes a slice.
extern const char kWgmmaSlices[];

// Vectors as sums lie in a warp's registers, for a finishing text in namespace fragment.
extern const char kFragmentWords[];
// What is done with four columns of a row: the epilogue; or that, and the row is handed on.
extern const char kWgmmaKeepsResult[];
extern const char kWgmmaHandsOn[];
// From sums to the epilogue: straight from registers in fragments; or along rows, by way of shared memory, in
// quads.
extern const char kWgmmaFinishFragments[];
extern const char kWgmmaFinishRows[];

extern const char kWgmmaKernel[];

}  // namespace preheat::codegen::cuda
