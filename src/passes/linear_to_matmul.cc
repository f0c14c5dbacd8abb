#include "passes/linear_to_matmul.h"

#include <string>

namespace preheat::passes {

ir::Graph LinearToMatmul(const ir::Graph& graph) {
  ir::Graph result = graph;
  for (ir::Node& node : result.nodes) {
    if (node.op != ir::Op::kLinear) continue;
    node.op = ir::Op::kMatmul;
    node.attributes = {{"prologue", std::string("none")},
                       {"epilogue", std::string("store")},
                       {"parts", int64_t{1}},
                       {"bias", int64_t{node.inputs.size() == 3}},
                       {"math", std::string("f32")}};
  }
  return result;
}

}  // namespace preheat::passes
