// What all passes share: asking who reads a value, exchanging a value for another, and tidying up afterwards.
// A pass changes nodes in place or adds nodes at the end of a block; Tidied then orders and renumbers.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

// The index of the block that holds `id`. REQUIRES: one does.
size_t BlockOf(const ir::Graph& graph, ir::NodeId id);
bool SameBlock(const ir::Graph& graph, ir::NodeId a, ir::NodeId b);

// True where `user` alone reads `id` (perhaps twice), stands in its block, and `id` is no result: then `id`
// may vanish into `user`.
bool OnlyFeeds(const ir::Graph& graph, ir::NodeId id, ir::NodeId user);

// A Matmul that can still take a prologue and an epilogue: prologue "none", epilogue "store", f32 result.
bool IsPlainMatmul(const ir::Graph& graph, ir::NodeId id);

// Adds `node` to the block of `beside`.
ir::NodeId AddBeside(ir::Graph& graph, ir::NodeId beside, ir::Node node);

// Everything that reads or names `from` does so with `to`.
void ReplaceUses(ir::Graph& graph, ir::NodeId from, ir::NodeId to);

// Each block in an order where inputs stand before their users, otherwise as it was; without what nothing
// needs. REQUIRES: no cycle.
ir::Graph Tidied(ir::Graph graph);

}  // namespace preheat::passes
