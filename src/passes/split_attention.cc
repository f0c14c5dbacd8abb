#include "passes/split_attention.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "ir/verify.h"
#include "passes/rewrite.h"

namespace preheat::passes {

using ir::Graph;
using ir::Node;
using ir::NodeId;
using ir::Op;

Graph SplitAttention(const Graph& graph, int64_t block) {
  CHECK(block > 0);
  Graph result = graph;
  for (NodeId id = 0; id < static_cast<NodeId>(result.nodes.size()); ++id) {
    Node& matmul = result[id];
    if (matmul.op != Op::kMatmul || matmul.Text("prologue") != "none") continue;
    const NodeId attention = matmul.inputs[0];
    Node& node = result[attention];
    const bool also_residual = std::count(matmul.inputs.begin(), matmul.inputs.end(), attention) > 1;
    if (node.op != Op::kAttention || node.type.dtype != tensor::DType::kF32 ||
        node.type.shape[0] != ir::Dim::Of(1) || also_residual || !OnlyFeeds(result, attention, id)) {
      continue;
    }
    auto attributes = node.attributes;
    attributes["block"] = block;
    node = ir::MakeNode(result, Op::kSplitAttention, node.inputs, attributes);
    matmul.attributes["prologue"] = std::string("merge");
  }
  return result;
}

}  // namespace preheat::passes
