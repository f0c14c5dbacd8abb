#include "passes/narrow_operations.h"

#include "ir/verify.h"

namespace preheat::passes {
namespace {

using ir::Op;

bool Narrows(Op op) {
  switch (op) {
    case Op::kRmsNorm:
    case Op::kLinear:
    case Op::kRotary:
    case Op::kAttention:
    case Op::kMul:
    case Op::kSilu:
    case Op::kKvCache:
      return true;
    case Op::kIds:
    case Op::kWeight:
    case Op::kCarry:
    case Op::kEmbedding:
    case Op::kAppend:  // has its cache's
    case Op::kAdd:
    case Op::kLastRow:
    case Op::kSample:
    case Op::kProbe:
    case Op::kMatmul:
    case Op::kAppendedCache:
    case Op::kSplitAttention:
      return false;
  }
  return false;
}

}  // namespace

ir::Graph NarrowOperations(const ir::Graph& graph, tensor::DType dtype) {
  ir::Graph result = graph;
  for (const ir::Block& block : result.blocks) {
    for (const ir::NodeId id : block.nodes) {
      ir::Node& node = result[id];
      if (Narrows(node.op) && id != graph.logits) node.type.dtype = dtype;
      if (node.op == Op::kAppend) node.type = ir::InferType(result, node);
    }
  }
  ir::Verify(result);
  return result;
}

}  // namespace preheat::passes
