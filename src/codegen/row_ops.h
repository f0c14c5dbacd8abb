// RmsNorm and LastRow as regions of their own: where no matmul took them in.
//
// RmsNorm: tile: a block of rows; operands: x, weight, result; schedule: "rows" a tile. The squares' sum is
// taken in a fixed order, so a row's result is the same bits for every schedule. LastRow: one tile; operands:
// x, result; no schedule.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::row_ops {

// As the functions of the same names in codegen.h, for RmsNorm and LastRow.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::row_ops
