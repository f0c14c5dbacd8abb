#include "passes/fuse_gate_up.h"

#include <string>

#include "passes/rewrite.h"

namespace preheat::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

bool Fits(const Graph& graph, NodeId mul, NodeId silu, NodeId up) {
  if (graph[silu].op != Op::kSilu || graph[silu].type.dtype != tensor::DType::kF32) return false;
  const NodeId gate = graph[silu].inputs[0];
  if (gate == up || !IsPlainMatmul(graph, gate) || !IsPlainMatmul(graph, up)) return false;
  return OnlyFeeds(graph, silu, mul) && OnlyFeeds(graph, gate, silu) && OnlyFeeds(graph, up, mul) &&
         graph[gate].inputs[0] == graph[up].inputs[0] && graph[gate].Int("bias") == graph[up].Int("bias") &&
         graph[gate].Text("math") == graph[up].Text("math");
}

}  // namespace

Graph FuseGateUp(const Graph& graph) {
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    if (result[id].op != Op::kMul) continue;
    NodeId silu = result[id].inputs[0], up = result[id].inputs[1];
    if (!Fits(result, id, silu, up)) std::swap(silu, up);
    if (!Fits(result, id, silu, up)) continue;
    const Node& gate = result[result[silu].inputs[0]];
    Node region{Op::kMatmul, {gate.inputs[0]}, gate.attributes, result[id].type};
    region.attributes["epilogue"] = std::string("silu_mul");
    region.attributes["parts"] = int64_t{2};
    for (size_t input = 1; input < gate.inputs.size(); ++input) {  // weights, then biases
      region.inputs.push_back(gate.inputs[input]);
      region.inputs.push_back(result[up].inputs[input]);
    }
    result[id] = std::move(region);
  }
  return Tidied(std::move(result));
}

}  // namespace preheat::passes
