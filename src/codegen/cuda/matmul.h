// The Matmul region on CUDA: gemv.h where x has one row, gemm.h where it has many.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::matmul_region {

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

// As codegen::HandOn.
std::vector<Workspace> HandOn(const ir::Graph& graph, const Target& target, ir::NodeId from,
                              Schedule* from_schedule, ir::NodeId to, Schedule* to_schedule);

}  // namespace preheat::codegen::cuda::matmul_region
