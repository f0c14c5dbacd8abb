// Matmul regions of many rows: the "panel" family of schedules.
#pragma once

#include "codegen/matmul_spec.h"

namespace preheat::codegen::matmul {

Schedule DefaultPanel(const Spec& spec, const Target& target, const StepShape& shape);
std::vector<Schedule> PanelCandidates(const Spec& spec, const Target& target, const StepShape& shape);
RegionCode GeneratePanel(const ir::Graph& graph, const Spec& spec, const Target& target,
                         const Schedule& schedule);

}  // namespace preheat::codegen::matmul
