#include "passes/fuse_qkv.h"

#include <optional>
#include <string>

#include "ir/verify.h"
#include "passes/rewrite.h"

namespace preheat::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;
using tensor::DType;

struct Match {
  NodeId rotated_q, q, k, v;  // Rotary, then the three Matmuls
  NodeId cache;
  int64_t head_dim;
};

// The query that meets this cache: that of the Attention that reads it.
std::optional<NodeId> RotatedQuery(const Graph& graph, NodeId append) {
  for (NodeId user : ir::Users(graph, append)) {
    if (graph[user].op != Op::kAttention || !SameBlock(graph, user, append)) continue;
    const NodeId q = graph[user].inputs[0];
    if (graph[q].op == Op::kRotary && SameBlock(graph, q, append)) return q;
  }
  return std::nullopt;
}

std::optional<Match> MatchAt(const Graph& graph, NodeId append) {
  const Node& node = graph[append];
  if (node.op != Op::kAppend) return std::nullopt;
  const std::optional<NodeId> rotated_q = RotatedQuery(graph, append);
  const NodeId rotated_k = node.inputs[1];
  if (!rotated_q || graph[rotated_k].op != Op::kRotary || graph[rotated_k].type.dtype != DType::kF32 ||
      !OnlyFeeds(graph, rotated_k, append)) {
    return std::nullopt;
  }
  const Match match{
      *rotated_q,     graph[*rotated_q].inputs[0],     graph[rotated_k].inputs[0], node.inputs[2],
      node.inputs[0], graph[rotated_k].Int("head_dim")};
  const bool plain =
      IsPlainMatmul(graph, match.q) && IsPlainMatmul(graph, match.k) && IsPlainMatmul(graph, match.v);
  if (!plain || match.k == match.v || !OnlyFeeds(graph, match.q, match.rotated_q) ||
      !OnlyFeeds(graph, match.k, rotated_k) || !OnlyFeeds(graph, match.v, append)) {
    return std::nullopt;
  }
  for (NodeId other : {match.k, match.v}) {
    const bool alike = graph[other].inputs[0] == graph[match.q].inputs[0] &&
                       graph[other].Int("bias") == graph[match.q].Int("bias") &&
                       graph[other].Text("math") == graph[match.q].Text("math");
    if (!alike) return std::nullopt;
  }
  if (graph[match.rotated_q].Int("head_dim") != match.head_dim) return std::nullopt;
  return match;
}

}  // namespace

Graph FuseQkv(const Graph& graph) {
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    const std::optional<Match> match = MatchAt(result, id);
    if (!match) continue;
    Node region = result[match->q];
    region.type = result[match->rotated_q].type;
    region.attributes["epilogue"] = std::string("rotary_append");
    region.attributes["parts"] = int64_t{3};
    region.attributes["head_dim"] = match->head_dim;
    region.inputs = {region.inputs[0]};
    for (size_t input = 1; input < result[match->q].inputs.size(); ++input) {  // weights, then biases
      for (NodeId part : {match->q, match->k, match->v}) region.inputs.push_back(result[part].inputs[input]);
    }
    region.inputs.push_back(match->cache);
    const NodeId fused = AddBeside(result, id, std::move(region));
    const NodeId appended = AddBeside(result, id, ir::MakeNode(result, Op::kAppendedCache, {fused}));
    ReplaceUses(result, match->rotated_q, fused);
    ReplaceUses(result, id, appended);
    // The old Append would be kept for its effect, which is the region's now.
    result[id] = result[match->cache];
    result = Tidied(std::move(result));
    id = -1;  // numbers have changed: look again from the start
  }
  return result;
}

}  // namespace preheat::passes
