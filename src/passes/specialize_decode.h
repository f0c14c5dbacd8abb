// A step of one row: n becomes 1 in every shape, and with it the last row is the only one, so LastRow goes.
//
//   %9 = last_row(%8) : f32[1, h]     ->   readers of %9 read %8 : f32[1, h]
//
// What follows may then count on one row: splitting attention over the positions, matrix products as streams
// of weights. The past stays symbolic.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph SpecializeDecode(const ir::Graph& graph);

}  // namespace preheat::passes
