// The text of a persistent kernel: what its links share, and the bodies of each kind of link (persistent.h).
#pragma once

namespace preheat::codegen::cuda::persistent {

// Flagged words and their pointers.
extern const char kWords[];
// The ring, its producer and its consumers, the links. Needs kWarps, kStages, kChunk, kWindow,
// kWindowStalled, kTeam*, places in shared memory.
extern const char kRing[];
// In namespace team: LoadDependentRow of flagged words.
extern const char kFlaggedRow[];
// In namespace warp: runs of flagged words.
extern const char kFlaggedRuns[];

// Produce(args, producer) and Consume(args, consumer) of a link, in a namespace of its own.
extern const char kEmbedding[];
extern const char kMatmul[];
extern const char kAttention[];

// The kernel: its links one after the other. Format: cases of the producer, cases of the consumers.
extern const char kKernel[];

}  // namespace preheat::codegen::cuda::persistent
