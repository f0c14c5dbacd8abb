#include "codegen/matmul.h"

#include "base/check.h"
#include "codegen/gemv.h"
#include "codegen/panel.h"

namespace preheat::codegen::matmul {
namespace {

Spec SpecOf(const ir::Graph& graph, ir::NodeId node) {
  std::optional<Spec> spec = ReadSpec(graph, node);
  CHECK(spec.has_value());
  return *std::move(spec);
}

bool HasOneRow(const Spec& spec, const StepShape& shape) {
  return spec.one_row || shape.rows == 1;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target&) {
  return ReadSpec(graph, node).has_value();
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape) {
  const Spec spec = SpecOf(graph, node);
  return HasOneRow(spec, shape) ? DefaultGemv(spec, target, shape) : DefaultPanel(spec, target, shape);
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape) {
  const Spec spec = SpecOf(graph, node);
  return HasOneRow(spec, shape) ? GemvCandidates(spec, target, shape) : PanelCandidates(spec, target, shape);
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule) {
  const Spec spec = SpecOf(graph, node);
  if (schedule.at("family") == 0) {
    CHECK(HasOneRow(spec, shape));
    return GenerateGemv(graph, spec, target, schedule);
  }
  return GeneratePanel(graph, spec, target, schedule);
}

}  // namespace preheat::codegen::matmul
