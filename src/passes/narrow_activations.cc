#include "passes/narrow_activations.h"

#include <algorithm>
#include <string>

#include "ir/verify.h"

namespace preheat::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;
using tensor::DType;

bool WeightsAreBf16(const Graph& graph) {
  return std::all_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op != Op::kWeight || node.type.shape.size() != 2 || node.type.dtype == DType::kBf16;
  });
}

// True where `user` reads `id` only as the left factor of a product, or as the query of attention.
bool ReadsNarrow(const Node& user, NodeId id) {
  const bool product = user.op == Op::kMatmul && user.Text("prologue") == "none";
  const bool attention = user.op == Op::kAttention || user.op == Op::kSplitAttention;
  return (product || attention) && user.inputs[0] == id &&
         std::count(user.inputs.begin(), user.inputs.end(), id) == 1;
}

bool IsComputed(Op op) {
  return op == Op::kRmsNorm || op == Op::kRotary || op == Op::kAttention || op == Op::kAdd ||
         op == Op::kMul || op == Op::kSilu || op == Op::kMatmul;
}

bool AllReadNarrow(const Graph& graph, NodeId id) {
  if (ir::IsResult(graph, id)) return false;
  const std::vector<NodeId> users = ir::Users(graph, id);
  return std::all_of(users.begin(), users.end(), [&](NodeId user) {
    const Op op = graph[user].op;
    // The cache that a region appended to is named through it, and has a type of its own.
    if (op == Op::kAppendedCache) return true;
    return op == Op::kLastRow ? AllReadNarrow(graph, user) : ReadsNarrow(graph[user], id);
  });
}

}  // namespace

Graph NarrowActivations(const Graph& graph) {
  if (!WeightsAreBf16(graph)) return graph;
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    Node& node = result[id];
    if (node.op == Op::kMatmul) node.attributes["math"] = std::string("bf16");
    const bool narrow = IsComputed(node.op) && AllReadNarrow(graph, id);
    if (node.op == Op::kKvCache || narrow) node.type.dtype = DType::kBf16;
  }
  for (const ir::Block& block : result.blocks) {
    for (NodeId id : block.nodes) {
      const Op op = result[id].op;
      const bool follows = op == Op::kAppend || op == Op::kAppendedCache || op == Op::kLastRow;
      if (follows) result[id].type = ir::InferType(result, result[id]);
    }
  }
  return result;
}

}  // namespace preheat::passes
