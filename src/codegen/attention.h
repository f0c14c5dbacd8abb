// Causal attention over a KV cache as generated code: Attention (a prefill's rows, or the last of them alone,
// where nobody splits that) and SplitAttention (the step's last row, positions shared out in parts). Method:
// online softmax over blocks of positions with the rescaling of FlashAttention-2
// (https://arxiv.org/abs/2307.08691); the query heads of a group are the rows of one product, so that keys
// and values are read once a group.
//
// Order of sums: positions are taken in blocks of 64 counted from position 0 (SplitAttention: from the part's
// begin, a multiple of 64), and inside a block one after the other. So a row's result is the same bits for
// every schedule and every number of rows beside it. Probabilities are rounded to bf16 where the query is
// bf16; sums and the softmax are f32. Cache slots that no row sees are never used: what they hold, NaN too,
// changes nothing.
//
// Attention       tile: (kv head, block of query rows), one head's row blocks after another, the longest
// first.
//                 Operands: query, keys, values, result.
//                 Schedule: "rows" query rows a tile; "mr" rows of the register tile.
// SplitAttention  tile: (kv head, part of `block` positions), one head's parts after another. Operands:
// query, keys,
//                 values, partial results f32 [parts, heads, RowStride]: the unnormalised sum over the part's
//                 positions at 0 .. head_dim - 1, the largest scaled score m, the sum l of exp(s - m). Parts
//                 behind the last position are not written: there are ceil((past + rows) / block) parts.
//                 `block` is the node's attribute, since the region that merges must agree on it; a multiple
//                 of kSplitBlockUnit (buffers.h). Schedule: "mr"; "ahead" 1: keys and values are prefetched
//                 half a block ahead.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::attention {

// As the functions of the same names in codegen.h, for Attention and SplitAttention.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::attention
