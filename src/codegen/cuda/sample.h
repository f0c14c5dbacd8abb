// Sample on CUDA: the next token, exactly as ir/sample_reference.h defines it; the end of a step.
//
// Blocks look for the largest logit of each chunk; the last of them to end goes on alone. Greedy then looks
// into one chunk; with top-k only chunks whose largest can be among the k are looked at again. All sums that
// decide are of integers, so that threads may take them in any order. At the end the kernel moves the state
// on: token, steps, past, the ring that tells the host.
#pragma once

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::sample {

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target);

}  // namespace preheat::codegen::cuda::sample
