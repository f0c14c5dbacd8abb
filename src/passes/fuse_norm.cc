#include "passes/fuse_norm.h"

#include <algorithm>
#include <string>

#include "passes/rewrite.h"

namespace preheat::passes {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

Graph FuseNorm(const Graph& graph) {
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    Node& matmul = result[id];
    if (matmul.op != Op::kMatmul || matmul.Text("prologue") != "none") continue;
    const NodeId norm = matmul.inputs[0];
    const bool also_residual = std::count(matmul.inputs.begin(), matmul.inputs.end(), norm) > 1;
    if (result[norm].op != Op::kRmsNorm || result[norm].type.dtype != tensor::DType::kF32 || also_residual ||
        !OnlyFeeds(result, norm, id)) {
      continue;
    }
    matmul.attributes["prologue"] = std::string("rms_norm");
    matmul.attributes["eps"] = result[norm].Real("eps");
    matmul.inputs[0] = result[norm].inputs[0];
    matmul.inputs.insert(matmul.inputs.begin() + 1, result[norm].inputs[1]);
  }
  return Tidied(std::move(result));
}

}  // namespace preheat::passes
