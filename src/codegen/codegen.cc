#include "codegen/codegen.h"

#include <fmt/ranges.h>

#include "base/check.h"
#include "codegen/attention.h"
#include "codegen/cuda/generators.h"
#include "codegen/cuda/matmul.h"
#include "codegen/cuda/persistent.h"
#include "codegen/embedding.h"
#include "codegen/matmul.h"
#include "codegen/matmul_spec.h"
#include "codegen/row_ops.h"
#include "codegen/sample.h"

namespace preheat::codegen {
namespace {

Generator CpuGeneratorOf(ir::Op op) {
  using ir::Op;
  switch (op) {
    case Op::kMatmul:
      return {matmul::CanCompile, matmul::DefaultSchedule, matmul::Candidates, matmul::Generate};
    case Op::kAttention:
    case Op::kSplitAttention:
      return {attention::CanCompile, attention::DefaultSchedule, attention::Candidates, attention::Generate};
    case Op::kEmbedding:
      return {embedding::CanCompile, embedding::DefaultSchedule, embedding::Candidates, embedding::Generate};
    case Op::kRmsNorm:
    case Op::kLastRow:
      return {row_ops::CanCompile, row_ops::DefaultSchedule, row_ops::Candidates, row_ops::Generate};
    case Op::kSample:
      return {sample::CanCompile, sample::DefaultSchedule, sample::Candidates, sample::Generate};
    // Operands, names of another region's result, and what passes must have fused into a region.
    case Op::kIds:
    case Op::kWeight:
    case Op::kKvCache:
    case Op::kCarry:
    case Op::kAppendedCache:
    case Op::kLinear:
    case Op::kRotary:
    case Op::kAppend:
    case Op::kAdd:
    case Op::kMul:
    case Op::kSilu:
    case Op::kProbe:
      return {};
  }
  return {};
}

Generator GeneratorOf(ir::Op op, const Target& target) {
  return target.IsCuda() ? CudaGeneratorOf(op) : CpuGeneratorOf(op);
}

// REQUIRES: the operation has one, as CanCompile said.
Generator NeededGenerator(ir::Op op, const Target& target) {
  const Generator generator = GeneratorOf(op, target);
  CHECK(generator.can_compile != nullptr);
  return generator;
}

}  // namespace

std::string ToText(const Schedule& schedule) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : schedule) parts.push_back(fmt::format("{}={}", name, value));
  return fmt::format("{}", fmt::join(parts, " "));
}

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target) {
  const Generator generator = GeneratorOf(graph[node].op, target);
  return generator.can_compile != nullptr && generator.can_compile(graph, node, target);
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape) {
  return NeededGenerator(graph[node].op, target).default_schedule(graph, node, target, shape);
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape) {
  return NeededGenerator(graph[node].op, target).candidates(graph, node, target, shape);
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule) {
  return NeededGenerator(graph[node].op, target).generate(graph, node, target, shape, schedule);
}

std::vector<Workspace> HandOn(const ir::Graph& graph, const Target& target, ir::NodeId from,
                              Schedule* from_schedule, ir::NodeId to, Schedule* to_schedule) {
  if (!target.IsCuda()) return {};
  return cuda::matmul_region::HandOn(graph, target, from, from_schedule, to, to_schedule);
}

std::vector<ir::NodeId> NormalizersOf(const ir::Graph& graph, ir::NodeId node) {
  std::vector<ir::NodeId> found;
  const ir::Node* weight = nullptr;
  for (const ir::Block& block : graph.blocks) {
    const size_t before = found.size();
    const bool carries = block.repeats() && (block.yield == node || block.carried == node);
    for (const ir::NodeId id : block.nodes) {
      if (graph[id].op != ir::Op::kMatmul) continue;
      const ir::NodeId x = graph[id].inputs[0];
      if (x != node && !(carries && graph[x].op == ir::Op::kCarry)) continue;
      const auto spec = matmul::ReadSpec(graph, id);
      if (!spec || spec->prologue != matmul::Prologue::kRmsNorm) continue;
      if (found.size() > before || (weight != nullptr && *weight != graph[spec->norm])) return {};
      weight = &graph[spec->norm];
      found.push_back(id);
    }
  }
  return found;
}

std::vector<Schedule> PersistentSchedules(const ir::Graph& graph, const Target& target) {
  if (!target.IsCuda()) return {};
  return cuda::persistent::Schedules(graph, target);
}

PersistentCode GeneratePersistent(const ir::Graph& graph, const Target& target, const Schedule& schedule) {
  return cuda::persistent::Generate(graph, target, schedule);
}

}  // namespace preheat::codegen
