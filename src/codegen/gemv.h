// Matmul regions of one row: the "gemv" family of schedules.
#pragma once

#include "codegen/matmul_spec.h"

namespace preheat::codegen::matmul {

Schedule DefaultGemv(const Spec& spec, const Target& target, const StepShape& shape);
std::vector<Schedule> GemvCandidates(const Spec& spec, const Target& target, const StepShape& shape);
RegionCode GenerateGemv(const ir::Graph& graph, const Spec& spec, const Target& target,
                        const Schedule& schedule);

}  // namespace preheat::codegen::matmul
