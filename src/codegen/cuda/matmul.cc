#include "codegen/cuda/matmul.h"

#include "base/check.h"
#include "codegen/cuda/gemm.h"
#include "codegen/cuda/gemv.h"
#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda::matmul_region {
namespace {

using matmul::Spec;

Spec SpecOf(const ir::Graph& graph, ir::NodeId node) {
  std::optional<Spec> spec = matmul::ReadSpec(graph, node);
  CHECK(spec.has_value());
  return *std::move(spec);
}

bool HasOneRow(const Spec& spec, const StepShape& shape) {
  return spec.one_row || shape.rows == 1;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target&) {
  const std::optional<Spec> spec = matmul::ReadSpec(graph, node);
  return spec && spec->prologue != matmul::Prologue::kMerge;
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape) {
  const Spec spec = SpecOf(graph, node);
  return HasOneRow(spec, shape) ? DefaultGemv(spec, target) : DefaultGemm(spec, target, shape);
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape) {
  const Spec spec = SpecOf(graph, node);
  return HasOneRow(spec, shape) ? GemvCandidates(spec, target) : GemmCandidates(spec, target, shape);
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule) {
  const Spec spec = SpecOf(graph, node);
  return HasOneRow(spec, shape) ? GenerateGemv(graph, spec, target, schedule)
                                : GenerateGemm(graph, spec, target, schedule);
}

std::vector<Workspace> HandOn(const ir::Graph& graph, const Target& target, ir::NodeId from,
                              Schedule* from_schedule, ir::NodeId to, Schedule* to_schedule) {
  return HandOnGemm(SpecOf(graph, from), from_schedule, SpecOf(graph, to), to_schedule, target);
}

}  // namespace preheat::codegen::cuda::matmul_region
