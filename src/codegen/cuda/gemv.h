// A product of one row, as in decode: every weight is read once, so the kernel is a stream.
//
// Launcher: blocks_per_sm blocks on each multiprocessor share the tiles (columns of the product) warp by
// warp. All that comes before the wait needs nothing of earlier kernels, and runs while they end: with family
// `ring` each warp's ring of shared-memory slots is filled with its first weights. Then the block stages the
// row x once, and each warp goes through its tiles. In a ring, a slot that was read is filled at once with
// what comes slots later in the warp's stream, whichever tile that is, so that the stream does not pause
// between tiles.
//
// Schedule: family 0 direct (any card, any shape), 1 ring (sm_90 and later; rows of a multiple of 16 bytes);
//   warps of a block; blocks a multiprocessor; rows: columns of each list in a tile; team 2: where columns
//   come in pairs (gate and up; a rotary pair), two warps take one each, so that tiles are half as coarse;
//   slots, slot_bytes of a warp's ring.
// Sums: lane by lane over pieces of 16 bytes in the order of k, then across lanes by halves: the same bits
// for the same schedule whatever runs beside.
#pragma once

#include <vector>

#include "codegen/codegen.h"
#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda {

Schedule DefaultGemv(const matmul::Spec& spec, const Target& target);
std::vector<Schedule> GemvCandidates(const matmul::Spec& spec, const Target& target);
RegionCode GenerateGemv(const ir::Graph& graph, const matmul::Spec& spec, const Target& target,
                        const Schedule& schedule);

}  // namespace preheat::codegen::cuda
