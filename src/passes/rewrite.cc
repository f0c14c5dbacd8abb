#include "passes/rewrite.h"

#include <algorithm>

#include "base/check.h"

namespace preheat::passes {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

size_t BlockOf(const Graph& graph, NodeId id) {
  for (size_t i = 0; i < graph.blocks.size(); ++i) {
    const auto& nodes = graph.blocks[i].nodes;
    if (std::find(nodes.begin(), nodes.end(), id) != nodes.end()) return i;
  }
  CHECK(false);
  return 0;
}

bool SameBlock(const Graph& graph, NodeId a, NodeId b) {
  return BlockOf(graph, a) == BlockOf(graph, b);
}

bool OnlyFeeds(const Graph& graph, NodeId id, NodeId user) {
  return !ir::IsResult(graph, id) && ir::Users(graph, id) == std::vector<NodeId>{user} &&
         SameBlock(graph, id, user);
}

bool IsPlainMatmul(const Graph& graph, NodeId id) {
  const Node& node = graph[id];
  return node.op == Op::kMatmul && node.Text("prologue") == "none" && node.Text("epilogue") == "store" &&
         node.type.dtype == tensor::DType::kF32;
}

NodeId AddBeside(Graph& graph, NodeId beside, Node node) {
  const NodeId id = static_cast<NodeId>(graph.nodes.size());
  graph.blocks[BlockOf(graph, beside)].nodes.push_back(id);
  graph.nodes.push_back(std::move(node));
  return id;
}

void ReplaceUses(Graph& graph, NodeId from, NodeId to) {
  const auto replace = [=](NodeId& id) {
    if (id == from) id = to;
  };
  for (Node& node : graph.nodes) std::for_each(node.inputs.begin(), node.inputs.end(), replace);
  for (ir::Block& block : graph.blocks) {
    replace(block.carried);
    replace(block.yield);
  }
  replace(graph.logits);
  replace(graph.token);
}

Graph Tidied(Graph graph) {
  enum class Mark { kOutside, kWaiting, kPlaced };
  std::vector<Mark> marks(graph.nodes.size(), Mark::kOutside);
  for (ir::Block& block : graph.blocks) {
    for (NodeId id : block.nodes) marks[static_cast<size_t>(id)] = Mark::kWaiting;
    std::vector<NodeId> ordered;
    // Depth first: a node that was added at the end comes right before its first reader.
    const auto place = [&](const auto& self, NodeId id) -> void {
      Mark& mark = marks[static_cast<size_t>(id)];
      if (mark != Mark::kWaiting) return;
      mark = Mark::kPlaced;
      for (NodeId input : graph[id].inputs) self(self, input);
      ordered.push_back(id);
    };
    for (NodeId id : block.nodes) place(place, id);
    block.nodes = std::move(ordered);
  }
  return ir::Compact(graph);
}

}  // namespace preheat::passes
