// Where one row is asked for, a decode step's or a prompt's last, it reads the whole cache: positions are
// split into blocks that threads take side by side (flash decoding), and the product that follows merges the
// partial sums in its prologue, so that no launch stands between.
//
//   matmul(attention(q, c), wo)   ->   matmul(split_attention(q, c) {block}, wo) {prologue = "merge"}
//
// Only for attention of one row (SpecializeDecode, TrimLastLayer), and where a plain product is the only
// reader. Source of the method: Dao et al., "FlashAttention", https://arxiv.org/abs/2205.14135, section 3.1,
// its rescaling of partial softmax sums.
#pragma once

#include "ir/graph.h"

namespace preheat::passes {

// `block`: positions a tile reads, > 0.
ir::Graph SplitAttention(const ir::Graph& graph, int64_t block);

}  // namespace preheat::passes
