// The text of a persistent kernel: what its links share, and the bodies of each kind of link (persistent.h).
#pragma once

namespace preheat::codegen::cuda::persistent {

// Flagged words and their pointers.
extern const char kWords[];
// The ring, its producer and its consumers, the links. Needs kWarps, kStages, kChunk, places in shared memory.
extern const char kRing[];
// In namespace team: LoadDependentRow of flagged words.
extern const char kFlaggedRow[];
// In namespace warp: runs of flagged words.
extern const char kFlaggedRuns[];

// Produce(args, producer) and Consume(args, consumer) of a link, in a namespace of its own. Attention needs
// kWindowMeanwhile: what may be under way while the block waits for words.
extern const char kEmbedding[];
extern const char kAttention[];
// A product's link: Produce, and Before and Finish, its epilogue.
extern const char kProductLink[];
// StageX(args, ask): a product's multiplicands. In a namespace with the words of stage_body.h, kXAt and kWindowMeanwhile.
extern const char kStageX[];
// Consume(kind, args, consumer) of all products of length kK; persistent_products.h writes what is before it.
extern const char kSums[];

// The kernel: its links one after the other. Format: cases of the producer, cases of the consumers.
extern const char kKernel[];

}  // namespace preheat::codegen::cuda::persistent
