// The two products of the MLP's input in one region, whose epilogue multiplies: neither is stored.
//
//   mul(silu(matmul(x, w_gate)), matmul(x, w_up))   ->   matmul(x, w_gate, w_up) {epilogue = "silu_mul",
//   parts = 2}
//
// The factors may stand in either order. All stays as it is where one of them has another reader, where they
// read different inputs, or where only one has a bias.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

ir::Graph FuseGateUp(const ir::Graph& graph);

}  // namespace preheat::passes
