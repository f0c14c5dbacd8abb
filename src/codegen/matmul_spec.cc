#include "codegen/matmul_spec.h"

#include <fmt/format.h>

namespace preheat::codegen::matmul {
namespace {

std::optional<Prologue> ParsePrologue(std::string_view text) {
  if (text == "none") return Prologue::kNone;
  if (text == "rms_norm") return Prologue::kRmsNorm;
  if (text == "merge") return Prologue::kMerge;
  return std::nullopt;
}

std::optional<Epilogue> ParseEpilogue(std::string_view text) {
  if (text == "store") return Epilogue::kStore;
  if (text == "add") return Epilogue::kAdd;
  if (text == "silu_mul") return Epilogue::kSiluMul;
  if (text == "rotary_append") return Epilogue::kRotaryAppend;
  return std::nullopt;
}

std::optional<tensor::DType> ParseMath(std::string_view text) {
  if (text == "f32") return tensor::DType::kF32;
  if (text == "bf16") return tensor::DType::kBf16;
  return std::nullopt;
}

bool IsNumber(const ir::Dim& dim) {
  return dim.symbol == ir::Dim::Symbol::kNone && dim.size > 0;
}

int PartsOf(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      return 1;
    case Epilogue::kSiluMul:
      return 2;
    case Epilogue::kRotaryAppend:
      return 3;
  }
  return 0;
}

// Reads x and what the prologue makes of it; false where we cannot.
bool ReadX(const ir::Graph& graph, const ir::Node& node, Spec* spec) {
  const ir::Type& x = graph[spec->x].type;
  if (!tensor::IsFloat(x.dtype)) return false;
  if (spec->prologue == Prologue::kMerge) {
    const ir::Node& split = graph[spec->x];
    if (split.op != ir::Op::kSplitAttention || x.dtype != tensor::DType::kF32) return false;
    spec->split_block = split.Int("block");
    spec->merge_heads = split.Int("heads");
    spec->merge_head_dim = split.Int("head_dim");
    spec->one_row = true;
    return spec->k == spec->merge_heads * spec->merge_head_dim;
  }
  if (x.shape.size() != 2 || x.shape[1] != ir::Dim::Of(spec->k)) return false;
  spec->one_row = x.shape[0] == ir::Dim::Of(1);
  if (!spec->one_row && x.shape[0].symbol != ir::Dim::Symbol::kRows) return false;
  if (spec->prologue == Prologue::kRmsNorm) spec->eps = node.Real("eps");
  return true;
}

bool ReadEpilogue(const ir::Graph& graph, const ir::Node& node, Spec* spec) {
  if (spec->epilogue == Epilogue::kSiluMul) return spec->parts[0].columns == spec->parts[1].columns;
  if (spec->epilogue != Epilogue::kRotaryAppend) return true;
  spec->head_dim = node.Int("head_dim");
  const ir::Type& cache = graph[spec->cache].type;
  if (spec->head_dim <= 0 || spec->head_dim % 2 != 0 || cache.shape.size() != 4 ||
      !tensor::IsFloat(cache.dtype) || cache.shape[3] != ir::Dim::Of(spec->head_dim)) {
    return false;
  }
  const int64_t kv_columns = cache.shape[2].size * spec->head_dim;
  return spec->parts[0].columns % spec->head_dim == 0 && spec->parts[1].columns == kv_columns &&
         spec->parts[2].columns == kv_columns;
}

}  // namespace

std::optional<Spec> ReadSpec(const ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph[id];
  if (node.op != ir::Op::kMatmul || !tensor::IsFloat(node.type.dtype)) return std::nullopt;
  const std::optional<Prologue> prologue = ParsePrologue(node.Text("prologue"));
  const std::optional<Epilogue> epilogue = ParseEpilogue(node.Text("epilogue"));
  const std::optional<tensor::DType> math = ParseMath(node.Text("math"));
  if (!prologue || !epilogue || !math) return std::nullopt;

  const bool biased = node.Int("bias") != 0;
  const int parts = PartsOf(*epilogue);
  const bool has_last = *epilogue == Epilogue::kAdd || *epilogue == Epilogue::kRotaryAppend;
  const size_t inputs = 1 + (*prologue == Prologue::kRmsNorm ? 1 : 0) +
                        static_cast<size_t>(parts) * (biased ? 2 : 1) + (has_last ? 1 : 0);
  if (node.Int("parts") != parts || node.inputs.size() != inputs) return std::nullopt;

  Spec spec;
  spec.node = id;
  spec.prologue = *prologue;
  spec.epilogue = *epilogue;
  spec.math = *math;
  auto input = node.inputs.begin();
  spec.x = *input++;
  if (spec.prologue == Prologue::kRmsNorm) spec.norm = *input++;
  for (int p = 0; p < parts; ++p) spec.parts.push_back({.weight = *input++});
  for (int p = 0; biased && p < parts; ++p) spec.parts[static_cast<size_t>(p)].bias = *input++;
  if (spec.epilogue == Epilogue::kAdd) spec.residual = *input++;
  if (spec.epilogue == Epilogue::kRotaryAppend) spec.cache = *input++;

  spec.weight_dtype = graph[spec.parts[0].weight].type.dtype;
  if (biased) spec.bias_dtype = graph[spec.parts[0].bias].type.dtype;
  if (!tensor::IsFloat(spec.weight_dtype) || !tensor::IsFloat(spec.bias_dtype)) return std::nullopt;
  for (Part& part : spec.parts) {
    const ir::Type& type = graph[part.weight].type;
    if (type.dtype != spec.weight_dtype || type.shape.size() != 2 || !IsNumber(type.shape[0]) ||
        !IsNumber(type.shape[1])) {
      return std::nullopt;
    }
    if (biased && graph[part.bias].type.dtype != spec.bias_dtype) return std::nullopt;
    part.columns = type.shape[0].size;
    if (spec.k != 0 && spec.k != type.shape[1].size) return std::nullopt;
    spec.k = type.shape[1].size;
  }
  if (!ReadX(graph, node, &spec) || !ReadEpilogue(graph, node, &spec)) return std::nullopt;
  spec.to_logits = graph.logits == id;
  return spec;
}

int Lists(const Spec& spec) {
  switch (spec.epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      return 1;
    case Epilogue::kSiluMul:
    case Epilogue::kRotaryAppend:
      return 2;
  }
  return 1;
}

void OperandList::Add(const std::string& name, const RegionOperand& operand) {
  text_ += fmt::format("constexpr int {} = {};\n", name, operands_.size());
  operands_.push_back(operand);
}

void OperandList::AddNode(const std::string& name, ir::NodeId node, program::Operand::Access access) {
  Add(name, {.kind = RegionOperand::Kind::kNode, .node = node, .access = access});
}

void OperandList::AddWorkspace(const std::string& name, int workspace, program::Operand::Access access) {
  Add(name, {.kind = RegionOperand::Kind::kWorkspace, .workspace = workspace, .access = access});
}

}  // namespace preheat::codegen::matmul
