// The sum with the residual in the epilogue of the product before it: the product is not stored.
//
//   add(residual, matmul(x, w))   ->   matmul(x, w, residual) {epilogue = "add"}
//
// Only where nothing else reads the product, and where it is not the residual itself.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph FuseResidual(const ir::Graph& graph);

}  // namespace preheat::passes
