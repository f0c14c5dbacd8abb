// Embedding as generated code: rows of the table, widened. An id outside the table reads its first or last
// row (hosts refuse such ids before).
//
// Tile: a block of rows. Operands: ids, table, result. Schedule: "rows" a tile.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::embedding {

// As the functions of the same names in codegen.h, for Embedding.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::embedding
