// The third family of gemm.h: bf16 on sm_90a, by whole warpgroups' products (wgmma) of matrices in shared
// memory.
//
// A block multiplies a tile of rows of x by columns, which are rows of weights. One or two warpgroups
// multiply; some more warps only ask the copy engine for data: one thread for weights, one for x, each
// through a ring of slots in shared memory, a slot being 64 of k. The rings are two because weights never
// change: they are asked for before the wait, while the last kernels end, and may run far ahead.
//
// Blocks of a cluster share: rows of x, weights (each asks for a part, which comes to all of them), or the
// sum itself: each then goes through a range of k, and they send each other the sums of all but a slice of
// the columns. The sums of a row go through k in order within a range, and ranges are added in order: the
// same bits for every schedule of one split, whatever rows stand beside.
//
// The copy engine reads tensors by maps (program::TensorMap), whose extents are those of buffers, not of a
// step: rows behind the valid ones come as whatever they are, and reach no valid row.
//
// A product that adds to the residual may hand its result on to the product that normalises it: besides its
// result it stores the rows times the norm's weights, and of each tile and row the sum of the squares. The
// other product multiplies those rows, and its sums by the rows' scales: 1 / the root of the mean square.
//
// Figures behind the defaults: docs/performance.md.
//
// Schedule: family 4; rows, columns of a tile; groups: warpgroups that multiply; share_x, split, share_w:
// blocks of a
//   cluster; w_slots, x_slots of the rings; w_head: slots of weights that are asked for before x; pairs:
//   columns of a head's half in a box; persistent 1: one block a multiprocessor goes through several tiles;
//   hands_on 1; handed: of how many sums of squares a row has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/cuda/wgmma_shape.h"
#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda {

// What the model of wgmma_choice.cc finds fastest for so many rows on a card of so many multiprocessors, the
// best first; numbers that are not known (0) are guessed. Empty where nothing fits.
std::vector<WgmmaNumbers> WgmmaChoices(const WgmmaRegion& region, const StepShape& shape, size_t most);

// The kernel's text behind the texts that name operands and strides, and the launch's shape. `x`: the
// operand's index, elements from row to row.
struct WgmmaX {
  int operand = 0;
  int64_t stride = 0;
};
std::string WgmmaText(const ir::Graph& graph, const matmul::Spec& spec, const Target& target,
                      const WgmmaShape& shape);
void ShapeWgmmaLaunch(const matmul::Spec& spec, const WgmmaShape& shape, const WgmmaX& x,
                      RegionLaunch* launch);

}  // namespace preheat::codegen::cuda
