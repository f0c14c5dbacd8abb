// The text of attention of many rows on tensor cores (FlashAttention-2, https://arxiv.org/abs/2307.08691): a
// block takes 16 rows a warp of one kv head, and goes through its positions in tiles of 64. Where there are
// parts, as many warps have the same rows and take every so many-th tile each; what they made is put together
// in the end. Keys come while values are worked on, and the other way round.
#pragma once

namespace preheat::codegen::cuda::attention {

extern const char kTilesBody[];

}  // namespace preheat::codegen::cuda::attention
