// The text of attention of many rows by products of warpgroups (sm_90a), after FlashAttention-3
// (https://arxiv.org/abs/2407.08608): a block's two warpgroups take a unit of up to 64 rows each, of one kv
// head; or one takes a unit alone. A third only brings keys and values, tile after tile through one ring of
// slots. The others have queries and weights in registers, keys and values in shared memory; while the
// products of one run, the other works on its softmax.
//
// Values beyond the positions that a block sees come as zeros, whatever lies there: a weight of zero times a
// number that is none would be none. The copy engine cannot know where they end, so threads copy.
#pragma once

namespace preheat::codegen::cuda::attention {

extern const char kWgmmaBody[];

}  // namespace preheat::codegen::cuda::attention
