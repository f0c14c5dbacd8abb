#include "passes/specialize_decode.h"

#include "passes/rewrite.h"

namespace preheat::passes {

using ir::Dim;
using ir::Graph;
using ir::NodeId;

Graph SpecializeDecode(const Graph& graph) {
  Graph result = graph;
  for (ir::Node& node : result.nodes) {
    for (Dim& dim : node.type.shape) {
      if (dim == Dim::Rows()) dim = Dim::Of(1);
    }
  }
  for (size_t i = 0; i < result.nodes.size(); ++i) {
    const ir::Node& node = result.nodes[i];
    if (node.op == ir::Op::kLastRow) ReplaceUses(result, static_cast<NodeId>(i), NodeId{node.inputs[0]});
  }
  return Tidied(std::move(result));
}

}  // namespace preheat::passes
