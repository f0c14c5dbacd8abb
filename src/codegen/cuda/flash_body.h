// The text of attention of many rows on tensor cores (FlashAttention-2, https://arxiv.org/abs/2307.08691): a
// block takes 16 rows a warp of one kv head, and goes through its positions in tiles of 64, the next tile on
// its way while one is worked on.
#pragma once

namespace preheat::codegen::cuda::attention {

extern const char kTilesBody[];

}  // namespace preheat::codegen::cuda::attention
