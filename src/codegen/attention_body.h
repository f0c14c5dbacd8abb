// The text of the attention kernels, written against the vocabulary of cpu_prelude.h and cache_layout.h.
// attention.cc puts the region's constants before it.
#pragma once

namespace preheat::codegen::attention {

// How cached elements meet queries and probabilities: LoadCached and DotCached, where a cached unit is as
// wide as the arithmetic's unit, and where bf16 pairs are multiplied as floats.
extern const char kCachedUnits[];
extern const char kCachedPairsAsFloats[];
// One block of positions for the rows of a tile: what prefill and decode share.
extern const char kBlockBody[];
// The entries.
extern const char kPrefillBody[];
extern const char kSplitBody[];

}  // namespace preheat::codegen::attention
