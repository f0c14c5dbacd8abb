// matmul: regions of one matrix product with its prologue and epilogue (ir/ops.def, Matmul).
//
// Two families of schedules:
//   "gemv"   one row. Each thread stages the row once a launch; a tile is `rows` weight rows of each list,
//            streamed once from memory. Schedule: family=0 rows streams unroll chunk.
//   "panel"  any number of rows. Rows are staged by a launch of their own (or read in place); a tile packs a
//   panel
//            of weight rows into cache and multiplies it with all rows of a block. Every sum runs through k
//            in order, whatever the schedule: all panel schedules of a region give bitwise the same row.
//            Schedule: family=1 mr nr kc panels row_block prefetch.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::matmul {

// As the functions of the same names in codegen.h, for Matmul.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::matmul
