// Embedding, RmsNorm and LastRow on CUDA: a block takes a row.
#pragma once

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::row_ops {

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target);

}  // namespace preheat::codegen::cuda::row_ops
