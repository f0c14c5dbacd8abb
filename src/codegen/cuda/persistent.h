// A decode step as one persistent kernel: a block on each multiprocessor stays from the embedding to the
// logits, walks a table of links, one for each region of each layer, and streams the weights of its tiles
// through a ring that does not stop between regions. Blocks hand activations on as flagged words
// (persistent_body.cc): no barrier over the grid.
//
// The regions' own texts are used: prologue, epilogue and tiles of products are those of gemv.h.
//
// A buffer of words is written again a round later, by whoever finishes its tiles. That is safe since each
// block has a tile of each product: whoever writes the next round's words has waited for words that every
// block made after it read the last round's. So the grid has no more blocks than the product with the fewest
// tiles.
#pragma once

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::persistent {

// As codegen::PersistentSchedules. Up to "few" positions are one part in attention; "stages" of the ring at
// most; "window" of those under way, "normed" while the block waits for words that it normalises, "stalled"
// while it waits for others.
std::vector<Schedule> Schedules(const ir::Graph& graph, const Target& target);
// As codegen::GeneratePersistent.
PersistentCode Generate(const ir::Graph& graph, const Target& target, const Schedule& schedule);

}  // namespace preheat::codegen::cuda::persistent
