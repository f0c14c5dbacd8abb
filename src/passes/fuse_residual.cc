#include "passes/fuse_residual.h"

#include <string>

#include "passes/rewrite.h"

namespace preheat::passes {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

Graph FuseResidual(const Graph& graph) {
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    if (result[id].op != Op::kAdd) continue;
    NodeId residual = result[id].inputs[0], product = result[id].inputs[1];
    const auto fits = [&] {
      return residual != product && IsPlainMatmul(result, product) && OnlyFeeds(result, product, id);
    };
    if (!fits()) std::swap(residual, product);
    if (!fits()) continue;
    Node region = result[product];
    region.type = result[id].type;
    region.attributes["epilogue"] = std::string("add");
    region.inputs.push_back(residual);
    result[id] = std::move(region);
  }
  return Tidied(std::move(result));
}

}  // namespace preheat::passes
