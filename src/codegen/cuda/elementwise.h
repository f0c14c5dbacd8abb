// Operations that passes fuse into regions, each as a kernel of its own, for graphs that are run operation by
// operation: Add, Mul, Silu, Rotary, Append. A block takes a piece of a row, a thread a few of its elements.
#pragma once

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::elementwise {

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target);

}  // namespace preheat::codegen::cuda::elementwise
