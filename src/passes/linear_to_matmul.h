// Every Linear becomes a Matmul region with nothing fused yet: what later passes extend.
//
//   linear(x, w, b)   ->   matmul(x, w, b) {prologue = "none", epilogue = "store", parts = 1, bias = 1, math
//   = "f32"}
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph LinearToMatmul(const ir::Graph& graph);

}  // namespace preheat::passes
