#include "codegen/matmul_text.h"

#include <fmt/format.h>

#include "codegen/buffers.h"

namespace preheat::codegen::matmul {
namespace {

std::string TypeName(std::string_view name, tensor::DType dtype) {
  return fmt::format("typedef {} {};\n", ElementName(dtype), name);
}

std::string ActivationType(const ir::Graph& graph, const Spec& spec, std::string_view name, ir::NodeId node,
                           Handed handed) {
  const tensor::DType dtype = graph[node].type.dtype;
  if (handed == Handed::kPlain || (node == spec.node && spec.to_logits)) return TypeName(name, dtype);
  return fmt::format("typedef Flagged<{}> {};\n", ElementName(dtype), name);
}

}  // namespace

Unit UnitOf(const Spec& spec, const Target& target) {
  return UnitFor(spec.weight_dtype, spec.math, target);
}

int64_t StagedElements(const Spec& spec, const Target& target) {
  const int64_t vector = target.vector_bytes / 4 * 2;
  return (spec.k + vector - 1) / vector * vector;
}

bool ReadsInPlace(const ir::Graph& graph, const Spec& spec, const Target& target) {
  if (spec.prologue != Prologue::kNone) return false;
  const tensor::DType x = graph[spec.x].type.dtype;
  switch (UnitOf(spec, target)) {
    case Unit::kF32:
      return x == tensor::DType::kF32;
    case Unit::kBf16InF32:
      return false;
    case Unit::kBf16Pair:
      // The unit of an odd k's last element would hold what lies behind the row.
      return x == tensor::DType::kBf16 && spec.k % 2 == 0;
  }
  return false;
}

std::string StageOpeningText(const ir::Graph& graph, const Spec& spec, int64_t staged, Handed handed) {
  std::string text = "\n" + ActivationType(graph, spec, "X", spec.x, handed);
  if (spec.norm != ir::kNoNode) text += TypeName("NormW", graph[spec.norm].type.dtype);
  text += fmt::format("constexpr i64 kK = {}, kStaged = {};\nconstexpr i64 kXStride = {};\n", spec.k, staged,
                      RowStride(graph[spec.x].type));
  return text;
}

std::string OpeningText(const ir::Graph& graph, const Spec& spec, int64_t staged, Handed handed) {
  std::string text = StageOpeningText(graph, spec, staged, handed);
  text += TypeName("W", spec.weight_dtype);
  if (spec.parts[0].bias != ir::kNoNode) text += TypeName("Bias", spec.bias_dtype);
  text += ActivationType(graph, spec, "Out", spec.node, handed);
  text += fmt::format("constexpr i64 kOutStride = {};\n",
                      spec.to_logits ? spec.parts[0].columns : RowStride(graph[spec.node].type));
  if (spec.residual != ir::kNoNode) {
    text += ActivationType(graph, spec, "Residual", spec.residual, handed);
    text += fmt::format("constexpr i64 kResidualStride = {};\n", RowStride(graph[spec.residual].type));
  }
  return text;
}

std::string ColumnsText(const Spec& spec) {
  std::string columns;
  for (size_t part = 0; part + 1 < spec.parts.size(); ++part)
    columns += fmt::format("part == {} ? {} : ", part, spec.parts[part].columns);
  return fmt::format("CONSTANT i64 ColumnsOf(int{}) {{ return {}{}; }}\n",
                     spec.parts.size() > 1 ? " part" : "", columns, spec.parts.back().columns);
}

}  // namespace preheat::codegen::matmul
