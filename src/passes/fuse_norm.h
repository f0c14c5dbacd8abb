// A norm in the prologue of the product that reads it. One row's norm is a fraction of a percent of its
// product; storing and loading it between two launches costs a barrier. How rows are staged is the
// generator's matter.
//
//   matmul(rms_norm(x, g) {eps}, w)   ->   matmul(x, g, w) {prologue = "rms_norm", eps}
//
// Runs after the passes that join products of one input. A norm that two regions still read is not computed
// twice: it stays a value.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph FuseNorm(const ir::Graph& graph);

}  // namespace preheat::passes
