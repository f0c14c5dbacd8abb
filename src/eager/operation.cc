#include "eager/operation.h"

#include <bit>

namespace preheat::eager {
namespace {

using program::Operand;
using Kind = Operand::Kind;
using Access = Operand::Access;

// Rotary and Append handle a head at a time in a buffer of so many floats (module/elementwise.cc).
constexpr int64_t kMaxHeadDim = 1024;

int64_t RealBits(double value) {
  return std::bit_cast<uint32_t>(static_cast<float>(value));
}

OperationOperand Written(ir::NodeId node) {
  return {Kind::kBuffer, node, Access::kWrite};
}

// An input: a weight or an activation.
OperationOperand Input(const ir::Graph& graph, ir::NodeId node) {
  return {graph[node].op == ir::Op::kWeight ? Kind::kWeight : Kind::kBuffer, node, Access::kRead};
}

// The result first, then the inputs as they stand.
Operation Plain(const ir::Graph& graph, ir::NodeId id, std::string entry) {
  Operation operation{std::move(entry), {Written(id)}, {}};
  for (const ir::NodeId input : graph[id].inputs) operation.operands.push_back(Input(graph, input));
  return operation;
}

// The KvCache that an appended cache is.
ir::NodeId CacheOf(const ir::Graph& graph, ir::NodeId node) {
  while (graph[node].op == ir::Op::kAppend) node = graph[node].inputs[0];
  return node;
}

}  // namespace

bool IsSource(ir::Op op) {
  return op == ir::Op::kIds || op == ir::Op::kWeight || op == ir::Op::kKvCache || op == ir::Op::kCarry;
}

std::optional<Operation> OperationOf(const ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph[id];
  switch (node.op) {
    case ir::Op::kEmbedding: {
      Operation operation = Plain(graph, id, "embedding");
      operation.operands[1].kind = Kind::kIds;
      return operation;
    }
    case ir::Op::kRmsNorm: {
      Operation operation = Plain(graph, id, "rms_norm");
      operation.numbers = {RealBits(node.Real("eps"))};
      return operation;
    }
    case ir::Op::kLinear:
      return Plain(graph, id, node.inputs.size() == 3 ? "linear_bias" : "linear");
    case ir::Op::kRotary: {
      if (node.Int("head_dim") > kMaxHeadDim) return std::nullopt;
      Operation operation = Plain(graph, id, "rotary");
      operation.operands.push_back({Kind::kRotary, ir::kNoNode, Access::kRead});
      operation.numbers = {node.Int("head_dim")};
      return operation;
    }
    case ir::Op::kAppend: {
      const ir::NodeId cache = CacheOf(graph, id);
      if (graph[cache].op != ir::Op::kKvCache) return std::nullopt;
      const std::vector<ir::Dim>& shape = graph[cache].type.shape;
      if (shape[3].size > kMaxHeadDim) return std::nullopt;
      return Operation{"append",
                       {{Kind::kKeyCache, cache, Access::kReadWrite},
                        {Kind::kValueCache, cache, Access::kReadWrite},
                        Input(graph, node.inputs[1]),
                        Input(graph, node.inputs[2])},
                       {shape[2].size, shape[3].size}};
    }
    case ir::Op::kAttention: {
      const ir::NodeId cache = CacheOf(graph, node.inputs[1]);
      if (graph[cache].op != ir::Op::kKvCache) return std::nullopt;
      return Operation{
          "attention",
          {Written(id),
           Input(graph, node.inputs[0]),
           {Kind::kKeyCache, cache, Access::kRead},
           {Kind::kValueCache, cache, Access::kRead}},
          {node.Int("heads"), node.Int("kv_heads"), node.Int("head_dim"), RealBits(node.Real("scale"))}};
    }
    case ir::Op::kAdd:
      return Plain(graph, id, "add");
    case ir::Op::kMul:
      return Plain(graph, id, "mul");
    case ir::Op::kSilu:
      return Plain(graph, id, "silu");
    case ir::Op::kLastRow:
      return Plain(graph, id, "last_row");
    case ir::Op::kProbe:
      return Plain(graph, id, "probe");
    case ir::Op::kSample:
      return Operation{
          "sample", {{Kind::kState, ir::kNoNode, Access::kReadWrite}, Input(graph, node.inputs[0])}, {}};
    case ir::Op::kIds:
    case ir::Op::kWeight:
    case ir::Op::kKvCache:
    case ir::Op::kCarry:
    case ir::Op::kMatmul:
    case ir::Op::kAppendedCache:
    case ir::Op::kSplitAttention:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace preheat::eager
