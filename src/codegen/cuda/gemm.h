// A product of many rows, as in prefill.
//
// x is staged by a launch of its own, a block a row, unless it lies ready, or the product that made it has
// staged it in its epilogue (wgmma.h). Then
//   mma   bf16: a block takes a tile of rows and columns; both factors come to shared memory in pieces of 32
//         along k, some of them under way while tensor cores (mma.sync) work on one; the sums go through
//         shared memory to the epilogue, so that it sees neighbouring columns. Any card from sm_80.
//   warp  any type: a warp takes a column (of each list) and some rows. Correct, not fast.
//   wgmma bf16 on sm_90a: wgmma.h.
// Where columns come in pairs (gate and up; a rotary pair), half of a tile's columns are of the first list,
// and half those that go with them.
//
// Schedule: family 2 mma, 3 warp, 4 wgmma (its own numbers); tile_rows, tile_columns; stages of k under way.
#pragma once

#include <vector>

#include "codegen/codegen.h"
#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda {

Schedule DefaultGemm(const matmul::Spec& spec, const Target& target, const StepShape& shape);
std::vector<Schedule> GemmCandidates(const matmul::Spec& spec, const Target& target, const StepShape& shape);
RegionCode GenerateGemm(const ir::Graph& graph, const matmul::Spec& spec, const Target& target,
                        const Schedule& schedule);

// As codegen::HandOn: where both are wgmma.
std::vector<Workspace> HandOnGemm(const matmul::Spec& from, Schedule* from_schedule, const matmul::Spec& to,
                                  Schedule* to_schedule, const Target& target);

}  // namespace preheat::codegen::cuda
