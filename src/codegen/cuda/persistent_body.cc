#include "codegen/cuda/persistent_body.h"

namespace preheat::codegen::cuda::persistent {

// A value goes from block to block as a word that says by itself whether it is there: a float's upper 24 bits
// (of bf16, its 16), and in the lowest byte the tag of the round that it belongs to. So a hop costs one store
// and one load, and nothing else need be ordered. A word's last value always has another tag than the one
// that is waited for: tags go on from step to step, and those of words that not every step writes with the
// steps that do.
const char kWords[] = R"text(
constexpr int kMostLooks = 1 << 22;  // seconds: far beyond any step
constexpr u32 kTagMask = 0xff;

template <class T> struct Flagged { u32 word; };
INLINE float ValueOf(u32 word) { return FloatOf(word & ~kTagMask); }
INLINE u32 WordOf(const bf16*, float x, u32 tag) { return (u32)Bf16FromFloat(x) << 16 | tag; }
INLINE u32 WordOf(const f32*, float x, u32 tag) {
  const u32 bits = x == x ? BitsOf(x) : 0x7fc00000u;
  return ((bits + 0x7fu + (bits >> 8 & 1)) & ~kTagMask) | tag;  // to nearest, ties to even
}
INLINE bool HasTag(u32 word, u32 tag) { return (word & kTagMask) == tag; }
INLINE bool HasTag(const Words2& words, u32 tag) { return HasTag(words.w[0], tag) && HasTag(words.w[1], tag); }
INLINE bool HasTag(const Words4& words, u32 tag) {
  return HasTag(words.w[0], tag) && HasTag(words.w[1], tag) && HasTag(words.w[2], tag) && HasTag(words.w[3], tag);
}
// Two values as a pair of bf16, which they are.
INLINE u32 PairOf(u32 low, u32 high) { return low >> 16 | (high & 0xffff0000u); }

template <class T> struct FlaggedPointer {
  u32* words;
  u32 tag;
};
template <class T> INLINE FlaggedPointer<T> operator+(FlaggedPointer<T> p, i64 n) { return {p.words + n, p.tag}; }
// Words that are read have the tag of the link's round; those that are written, too, but for what the next round reads.
template <class T> struct PointerTo<const Flagged<T>> {
  typedef FlaggedPointer<T> Type;
  INLINE Type At(const ph_args* args, int index) { return {(u32*)args->operands[index], args->tag}; }
};
template <class T> struct PointerTo<Flagged<T>> {
  typedef FlaggedPointer<T> Type;
  INLINE Type At(const ph_args* args, int index) { return {(u32*)args->operands[index], args->written_tag}; }
};
template <class T> INLINE void Put(FlaggedPointer<T> p, float x) { StoreRelaxed4(p.words, WordOf((const T*)0, x, p.tag)); }

// Asks for all of `count` words before it looks at the first, then again for those that are not there yet.
template <int kCount, class Words, class Load, class Again> INLINE void Await(Words* words, u32 tag, Load load, Again again) {
  UNROLL for (int i = 0; i < kCount; ++i) words[i] = load(i);
  NO_UNROLL for (int look = 0;; ++look) {
    bool all = true;
    UNROLL for (int i = 0; i < kCount; ++i) {
      if (HasTag(words[i], tag)) continue;
      all = false;
      words[i] = again(i);
    }
    if (all) break;
    if (look == kMostLooks) Trap();
  }
}
)text";

const char kFlaggedRow[] = R"text(
template <class T> INLINE void LoadDependentRow(FlaggedPointer<T> row, VF* vectors) {
  Words4 words[kVectors];
  // Threads behind the row's end look at its last words.
  const auto at = [&](int v) { return row.words + Min((i64)v * LANES + First(), (i64)kK - 4); };
  Await<kVectors>(words, row.tag, [&](int v) { return LoadDependent16(at(v)); }, [&](int v) { return LookAgain16(at(v)); });
  UNROLL for (int v = 0; v < kVectors; ++v) {
    const bool there = v * LANES + First() < kK;
    UNROLL for (int i = 0; i < 4; ++i) vectors[v].v[i] = there ? ValueOf(words[v].w[i]) : 0.0f;
  }
}
)text";

const char kFlaggedRuns[] = R"text(
template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
}
)text";

// Weights, keys and values stream through a ring of stages of shared memory, filled by a warp of its own in
// the order in which they are used: it never waits for an activation. A stage is eight rows of kChunk bf16,
// apart by a few banks.
//
// What is on its way from memory delays what blocks tell each other. So no more than a window of stages is
// under way at once, whatever the ring could hold; less while the block waits for words.
const char kRing[] = R"text(
constexpr int kTileRows = 8;
constexpr int kRowPitch = kChunk * 2 + 64;
constexpr int kStageBytes = kTileRows * kRowPitch;

INLINE CopyBarrier* Full(int stage) { return (CopyBarrier*)(SharedMemory() + kBarriersAt) + stage; }
INLINE CopyBarrier* Empty(int stage) { return Full(kStages + stage); }
INLINE u8* Stage(int stage) { return SharedMemory() + stage * kStageBytes; }
// How many stages may be under way: fewer while the block waits for words.
INLINE volatile i32* Window() { return (volatile i32*)(SharedMemory() + kWindowAt); }
// The consumers' threads.
INLINE void SyncConsumers() { SyncNamed(1, kWarps * 32); }

// As WaitBarrier, but for its loop, which is in the open here: the assembler arranges it better where waits are many.
INLINE void WaitStage(CopyBarrier* barrier, u32 parity) {
  NO_UNROLL for (int i = 0; !TryWaitBarrier(barrier, parity); ++i) {
    if (i == 1 << 14) Trap();
  }
}

struct RingPlace {
  int stage;
  u32 turn;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      turn ^= 1;
    }
  }
};

// Must match abi/kernel_abi.h.
struct ph_link {
  void* operands[16];
  i32 kind;
  i32 round;
};
static_assert(sizeof(ph_link) == 136);

// The table of links as one warp walks it: a link is asked for while the one before runs, and lies in shared memory
// that is the warp's own.
class Links {
 public:
  __device__ Links(const ph_gpu_args& params, int warp)
      : table_((const i64*)params.operands[0]), count_((int)params.tiles), mine_((i64*)(SharedMemory() + kLinksAt) + warp * kParts) {
    Ask(0);
  }
  // The next link, until the next call.
  __device__ const ph_link& Next() {
    SyncWarp();
    if (Lane() < kParts) mine_[Lane()] = part_;
    SyncWarp();
    Ask(++index_);
    return *(const ph_link*)mine_;
  }

 private:
  static constexpr int kParts = sizeof(ph_link) / 8;
  __device__ void Ask(int index) {
    if (index < count_ && Lane() < kParts) part_ = LoadEarlierI64(table_ + index * kParts + Lane());
  }

  const i64* table_;
  int count_;
  i64* mine_;
  i64 part_ = 0;
  int index_ = 0;
};

class Producer {
 public:
  __device__ Producer() : policy_(EvictFirst()) {}

  // The lane's stage, of `bytes` in all, when it is free and the window lets it be filled. All lanes.
  __device__ void Open(u32 bytes) {
    const int window = *Window();
    while (under_way_ >= window) {
      WaitStage(Full(oldest_.stage), oldest_.turn);
      oldest_.Next();
      --under_way_;
    }
    ++under_way_;
    WaitStage(Empty(place_.stage), place_.turn ^ 1);
    if (Lane() == 0) ExpectBytes(Full(place_.stage), bytes);
    SyncWarp();
  }
  __device__ void Copy(int at, const void* from, u32 bytes) {
    CopyBulk(Stage(place_.stage) + at, from, bytes, Full(place_.stage), policy_);
  }
  __device__ void Close() { place_.Next(); }

 private:
  u64 policy_;
  RingPlace place_ = {0, 0};
  RingPlace oldest_ = {0, 0};
  int under_way_ = 0;
};

struct Consumer {
  int warp;
  RingPlace place = {0, 0};
  int tiles = 0;  // of products so far, modulo kParts of sums: who finishes the next, and where its sums meet
  u32 tag = 0;    // of the step's first round
  u32 parts_tag = 0;  // the same of the words of attention's parts, which not every step writes
  u32* epoch = 0;
  Words2 epochs = {};  // steps so far, and those of them that had parts
};
)text";

const char kEmbedding[] = R"text(
INLINE void Produce(const ph_args*, Producer*) {}
// The first link, which also tells of what round the step's words are: each step's tags follow the last one's.
INLINE void Consume(const ph_args* link, Consumer* consumer) {
  consumer->epoch = Operand<u32>(link, 3);
  consumer->epochs = LoadDependent8(consumer->epoch);
  consumer->tag = consumer->epochs.w[0] * kRounds + 1;
  consumer->parts_tag = consumer->epochs.w[1] * kRounds + 1;
  const i64 id = Max(Min((i64)(i32)LoadDependent4(Operand<const i32>(link, 0)), kVocab - 1), 0);
  ph_args args = *link;
  args.written_tag = consumer->tag & kTagMask;
  const TableElement* const from = Operand<const TableElement>(&args, 1) + id * kWidth;
  const auto to = Operand<Flagged<ResultElement>>(&args, 2);
  NO_UNROLL for (int d = BlockIndex() * kWarps * 32 + ThreadIndex(); d < kWidth; d += BlockCount() * kWarps * 32) {
    Put(to + d, Get(from + d));
  }
}
)text";

// {0}: the producer's cases, {1}: the consumers', {2}: attention's kind. The last link's words have been read
// when the step's number moves on, since every block has a part in each product, and so has waited for all
// that it reads.
const char kKernel[] = R"text(
KERNEL(step, (kWarps + 1) * 32, 1, ph_gpu_args) {{
  const int warp = WarpIndex();
  if (ThreadIndex() == 0) {{
    for (int i = 0; i < kStages; ++i) {{
      InitBarrier(Full(i), 1);
      InitBarrier(Empty(i), kWarps);
    }}
    FenceBarriers();
    *Window() = kWindow;
  }}
  SyncBlock();
  LaunchDependents();
  Links links(params, warp);
  ph_args args = {{0, 1, 0, params.capacity, 0, 0}};
  if (warp == kWarps) {{
    Producer producer;
    bool started = false;
    NO_UNROLL for (int i = 0; i < params.tiles; ++i) {{
      const ph_link& link = links.Next();
      args.operands = link.operands;
      const int kind = (int)ShuffleFrom((u32)link.kind, 0);
      if (!started && kind == kAttention) {{  // what it streams depends on the step
        WaitDependencies();
        args.past = LoadEarlierI64(&params.state->past);
        started = true;
      }}
      switch (kind) {{
{0}      }}
    }}
    return;
  }}
  WaitDependencies();
  args.past = LoadEarlierI64(&params.state->past);
  Consumer consumer = {{warp}};
  NO_UNROLL for (int i = 0; i < params.tiles; ++i) {{
    const ph_link& link = links.Next();
    args.operands = link.operands;
    const int kind = (int)ShuffleFrom((u32)link.kind, 0);
    args.tag = (consumer.tag + (kind > kLastOfLayers ? kRounds - 1 : (u32)link.round)) & kTagMask;
    switch (kind) {{
{1}    }}
  }}
  if (BlockIndex() == 0 && ThreadIndex() == 0) {{
    const u32 has_parts = link{2}::ShareOf((int)args.past).parts > 1 ? 1 : 0;
    StoreRelaxed8(consumer.epoch, {{{{consumer.epochs.w[0] + 1, consumer.epochs.w[1] + has_parts}}}});
  }}
}}
)text";

}  // namespace preheat::codegen::cuda::persistent
