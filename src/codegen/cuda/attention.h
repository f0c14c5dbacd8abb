// Causal attention over a KV cache on CUDA. Keys and values lie row by row: [kv_head][position][head_dim].
//
// Method: online softmax (FlashAttention-2, https://arxiv.org/abs/2307.08691). The query heads of a group are
// taken together, so that keys and values are read once a group. Probabilities stay f32; sums and softmax are
// f32.
//
// rows    any type, any number of rows: a block takes a query row, a kv head and, where there is one row, a
//         decode step's or a prompt's last, one split of the positions. A warp reads several positions at
//         once, a few lanes each. What the splits of a head made is put together by the last of them to end,
//         in the order of the splits. Before the wait, a block already reads the first of its keys and values
//         that earlier steps left. Schedule: warps; splits of the positions at most (of one row only), and
//         the least that one takes: putting splits together costs a few microseconds.
// tiles   bf16, many rows: tensor cores; see flash_body.h. Schedule: warps of 16 rows each, parts of the
//         positions.
// wgmma   bf16, many rows, on sm_90a: products of warpgroups; see wgmma_attention_body.h. Schedule: positions
//         of a tile; slots of keys or values; queries of a block in the mean.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::cuda::attention {

bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::cuda::attention
