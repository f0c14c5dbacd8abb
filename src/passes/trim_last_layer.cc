#include "passes/trim_last_layer.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "ir/verify.h"
#include "passes/rewrite.h"

namespace preheat::passes {
namespace {

using ir::Block;
using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

// The inputs whose last row is all that the node's last row needs; none: it needs more, or is more than a
// value.
std::vector<size_t> RowInputs(const Node& node) {
  switch (node.op) {
    case Op::kRmsNorm:
    case Op::kLinear:
    case Op::kSilu:
    case Op::kAttention:  // its query; keys and values are all rows'
      return {0};
    case Op::kAdd:
    case Op::kMul:
      return {0, 1};
    case Op::kMatmul: {
      const std::string& epilogue = node.Text("epilogue");
      if (epilogue == "rotary_append" || node.Text("prologue") == "merge") return {};
      if (epilogue == "add") return {0, node.inputs.size() - 1};
      return {0};
    }
    case Op::kIds:
    case Op::kWeight:
    case Op::kKvCache:
    case Op::kCarry:
    case Op::kEmbedding:
    case Op::kRotary:  // turns a row by its position: the first of one row is another
    case Op::kAppend:
    case Op::kLastRow:
    case Op::kSample:
    case Op::kProbe:
    case Op::kAppendedCache:
    case Op::kSplitAttention:
      return {};
  }
  return {};
}

// The LastRow that alone reads what the last repeated block yields, or kNoNode.
NodeId FindLastRow(const Graph& graph) {
  const auto last = std::find_if(graph.blocks.rbegin(), graph.blocks.rend(),
                                 [](const Block& block) { return block.repeats(); });
  if (last == graph.blocks.rend()) return ir::kNoNode;
  const std::vector<NodeId> users = ir::Users(graph, last->yield);
  const bool one =
      users.size() == 1 && graph[users[0]].op == Op::kLastRow && !SameBlock(graph, users[0], last->yield);
  return one ? users[0] : ir::kNoNode;
}

// Makes the last round of the block a block of its own, behind it, and returns where that stands.
size_t PeelLastRound(Graph& graph, size_t index) {
  if (graph.blocks[index].repeat == 1) return index;
  Block& layers = graph.blocks[index];
  --layers.repeat;
  Block last = {
      .name = "last_layer", .repeat = 1, .first = layers.first + layers.repeat, .carried = layers.yield};
  std::map<NodeId, NodeId> copies;
  for (const NodeId id : layers.nodes) {
    Node copy = graph[id];
    for (NodeId& input : copy.inputs) {
      if (copies.contains(input)) input = copies.at(input);
    }
    copies[id] = static_cast<NodeId>(graph.nodes.size());
    last.nodes.push_back(copies[id]);
    graph.nodes.push_back(std::move(copy));
  }
  last.yield = copies.at(layers.yield);
  graph.blocks.insert(graph.blocks.begin() + static_cast<std::ptrdiff_t>(index) + 1, std::move(last));
  return index + 1;
}

// Makes the last rows of a block's values.
class LastRows {
 public:
  LastRows(Graph& graph, size_t block) : graph_(graph), block_(block) {}

  NodeId Of(NodeId id) {
    const auto found = rows_.find(id);
    if (found != rows_.end()) return found->second;
    Node row = graph_[id];
    const std::vector<size_t> inputs = RowInputs(row);
    if (inputs.empty()) {
      row = ir::MakeNode(graph_, Op::kLastRow, {id});
    } else {
      for (const size_t input : inputs) row.inputs[input] = Of(row.inputs[input]);
      row.type.shape[0] = Dim::Of(1);
    }
    const auto made = static_cast<NodeId>(graph_.nodes.size());
    graph_.nodes.push_back(std::move(row));
    graph_.blocks[block_].nodes.push_back(made);
    return rows_[id] = made;
  }

 private:
  Graph& graph_;
  const size_t block_;
  std::map<NodeId, NodeId> rows_;
};

}  // namespace

Graph TrimLastLayer(const Graph& graph) {
  const NodeId last_row = FindLastRow(graph);
  if (last_row == ir::kNoNode) return graph;
  const NodeId yield = graph[last_row].inputs[0];
  if (RowInputs(graph[yield]).empty()) return graph;
  Graph result = graph;
  const size_t index = PeelLastRound(result, BlockOf(graph, yield));
  Block& block = result.blocks[index];
  const NodeId row = LastRows(result, index).Of(block.yield);
  block.yield = row;
  ReplaceUses(result, last_row, row);
  return Tidied(std::move(result));
}

}  // namespace preheat::passes
