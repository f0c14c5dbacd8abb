#include "codegen/cuda/sample_body.h"

namespace preheat::codegen::cuda::sample {

const char kSampleBody[] = R"text(
constexpr int kWarps = kThreads / 32;
INLINE float Infinity() { return FloatOf(0x7f800000u); }

struct Workspace {
  float largest[kChunks];  // of each chunk's candidates; -infinity where it has none
  u32 first[kChunks];      // where a chunk's gathered candidates begin
  u32 ids[kVocab];         // the gathered candidates, in the order of ids
  u32 keys[kVocab];        // ordered as their logits are
  u32 weights[kVocab];
};

// Of the state, what choosing reads, in registers.
struct Rules {
  float temperature;
  float top_p;
  i32 top_k;
  i32 banned_count;
  const i32* banned;
};
INLINE bool IsBanned(const Rules& rules, i32 id) {
  NO_UNROLL for (int b = 0; b < rules.banned_count; ++b) {
    if ((i32)LoadDependent4(rules.banned + b) == id) return true;
  }
  return false;
}

// ---- Sums over the block, in all threads; `scratch` has a place for each warp --------------------------------
INLINE u64 BlockSum(u64 v, u64* scratch) {
  UNROLL for (int mask = 16; mask > 0; mask /= 2) {
    v += (u64)ShuffleXor((u32)v, mask) | ((u64)ShuffleXor((u32)(v >> 32), mask) << 32);
  }
  SyncBlock();
  if (Lane() == 0) scratch[ThreadIndex() / 32] = v;
  SyncBlock();
  u64 sum = 0;
  UNROLL for (int i = 0; i < kWarps; ++i) sum += scratch[i];
  return sum;
}
INLINE u32 BlockMin(u32 v, u64* scratch) {
  UNROLL for (int mask = 16; mask > 0; mask /= 2) {
    const u32 other = ShuffleXor(v, mask);
    v = other < v ? other : v;
  }
  SyncBlock();
  if (Lane() == 0) scratch[ThreadIndex() / 32] = v;
  SyncBlock();
  u64 least = scratch[0];
  UNROLL for (int i = 1; i < kWarps; ++i) least = scratch[i] < least ? scratch[i] : least;
  return (u32)least;
}
// The sum of the threads before this one; `total` is that of all.
INLINE u64 BlockSumBefore(u64 v, u64* scratch, u64* total) {
  u64 sum = v;  // up to this lane
  UNROLL for (int distance = 1; distance < 32; distance *= 2) {
    const int from = Lane() >= distance ? Lane() - distance : 0;
    const u64 other = (u64)ShuffleFrom((u32)sum, from) | ((u64)ShuffleFrom((u32)(sum >> 32), from) << 32);
    if (Lane() >= distance) sum += other;
  }
  SyncBlock();
  if (Lane() == 31) scratch[ThreadIndex() / 32] = sum;
  SyncBlock();
  u64 before = sum - v;
  *total = 0;
  NO_UNROLL for (int i = 0; i < kWarps; ++i) {
    if (i < ThreadIndex() / 32) before += scratch[i];
    *total += scratch[i];
  }
  return before;
}

// Unsigned integers in the order of floats; x is no NaN. Adding 0 makes -0 +0.
INLINE u32 Key(float x) {
  const u32 bits = BitsOf(Add(x, 0.0f));
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
INLINE float FloatOfKey(u32 key) { return FloatOf((key >> 31) != 0 ? key & 0x7fffffffu : ~key); }

// The largest of a chunk's candidates, in all lanes of the warp that takes it.
INLINE float LargestOf(const float* logits, int chunk, const Rules& rules) {
  float largest = -Infinity();
  UNROLL for (int i = 0; i < kChunk / 32; ++i) {
    const int id = chunk * kChunk + i * 32 + Lane();
    if (id >= kVocab) continue;
    const float x = FloatOf(LoadDependent4(logits + id));
    if (x > largest && !IsBanned(rules, id)) largest = x;
  }
  return WarpMax(largest);
}

// The lowest id with this logit that is not banned; where there is none, the lowest that is not banned; else 0.
NOINLINE i32 FirstWith(float logit, const float* logits, const Rules& rules, const Workspace* work, u64* scratch) {
  u32 first = 0xffffffffu;
  NO_UNROLL for (int chunk = ThreadIndex(); chunk < kChunks; chunk += kThreads) {
    if (FloatOf(LoadDependent4(work->largest + chunk)) == logit && (u32)chunk < first) first = (u32)chunk;
  }
  first = BlockMin(first, scratch);
  // Where the largest is -infinity, a chunk may have no such logit: then the next ones are looked at, too.
  NO_UNROLL for (int chunk = (int)first; first != 0xffffffffu && chunk < kChunks; ++chunk) {
    u32 found = 0xffffffffu;
    NO_UNROLL for (int id = chunk * kChunk + ThreadIndex(); id < kVocab && id < (chunk + 1) * kChunk; id += kThreads) {
      if (FloatOf(LoadDependent4(logits + id)) == logit && !IsBanned(rules, id) && (u32)id < found) found = (u32)id;
    }
    found = BlockMin(found, scratch);
    if (found != 0xffffffffu) return (i32)found;
  }
  u32 allowed = 0xffffffffu;
  NO_UNROLL for (int id = ThreadIndex(); id < kVocab && id < 32; id += kThreads) {
    if (!IsBanned(rules, id) && (u32)id < allowed) allowed = (u32)id;
  }
  allowed = BlockMin(allowed, scratch);
  return allowed == 0xffffffffu ? 0 : (i32)allowed;
}

// The count-th largest of `size` keys; keys(i) reads one. REQUIRES: 1 <= count <= size.
template <class Keys> INLINE u32 LargestKey(Keys keys, int size, int count, u64* scratch) {
  u32 key = 0;
  NO_UNROLL for (int bit = 31; bit >= 0; --bit) {
    const u32 higher = key | (1u << bit);
    u64 above = 0;
    NO_UNROLL for (int i = ThreadIndex(); i < size; i += kThreads) above += keys(i) >= higher ? 1 : 0;
    if (BlockSum(above, scratch) >= (u64)count) key = higher;
  }
  return key;
}

INLINE u64 SumFrom(const Workspace* work, int size, u32 lowest, u64* scratch) {
  u64 sum = 0;
  NO_UNROLL for (int i = ThreadIndex(); i < size; i += kThreads) sum += work->keys[i] >= lowest ? work->weights[i] : 0;
  return BlockSum(sum, scratch);
}

INLINE void KeepFrom(Workspace* work, int size, u32 lowest) {
  NO_UNROLL for (int i = ThreadIndex(); i < size; i += kThreads) {
    if (work->keys[i] < lowest) work->weights[i] = 0;
  }
  SyncBlock();
}

// The weight of a logit: 2^30 exp((x - largest) / temperature), rounded down.
INLINE u32 WeightOf(float x, float largest, float per_octave) {
  const float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float octaves = Multiply(Add(x, -largest), per_octave);
  const float t = octaves > -40.0f ? octaves : -40.0f;
  const float shifted = Add(t, kRound);
  const float f = Add(t, -Add(shifted, -kRound));
  float p = 0.000154035304f;
  p = FusedMultiplyAdd(p, f, 0.00133335581f);
  p = FusedMultiplyAdd(p, f, 0.00961812911f);
  p = FusedMultiplyAdd(p, f, 0.0555041087f);
  p = FusedMultiplyAdd(p, f, 0.240226507f);
  p = FusedMultiplyAdd(p, f, 0.693147182f);
  p = FusedMultiplyAdd(p, f, 1.0f);
  return (u32)(i32)Multiply(p, FloatOf((BitsOf(shifted) - BitsOf(kRound) + (127 + 30)) << 23));
}

// The candidates with a logit of at least `lowest`, in the order of ids, with keys and weights; a banned id among
// them has the weight 0. Returns how many.
INLINE int Gather(const float* logits, float lowest, float largest, const Rules& rules, Workspace* work, u64* scratch) {
  const float per_octave = Divide(1.44269504f, rules.temperature > 1e-6f ? rules.temperature : 1e-6f);
  const auto wanted = [&](int chunk, int i) {
    const int id = chunk * kChunk + i * 32 + Lane();
    return id < kVocab && FloatOf(LoadDependent4(logits + id)) >= lowest;
  };
  // How many each chunk has, then where they begin, then the candidates.
  NO_UNROLL for (int chunk = ThreadIndex() / 32; chunk < kChunks; chunk += kWarps) {
    u32 count = 0;
    if (FloatOf(LoadDependent4(work->largest + chunk)) >= lowest) {
      UNROLL for (int i = 0; i < kChunk / 32; ++i) count += (u32)CountBits(Ballot(wanted(chunk, i)));
    }
    if (Lane() == 0) work->first[chunk] = count;
  }
  SyncBlock();
  u64 size = 0;
  NO_UNROLL for (int begin = 0; begin < kChunks; begin += kThreads) {
    const int chunk = begin + ThreadIndex();
    u64 total = 0;
    const u64 before = BlockSumBefore(chunk < kChunks ? work->first[chunk] : 0, scratch, &total);
    if (chunk < kChunks) work->first[chunk] = (u32)(size + before);
    size += total;
  }
  SyncBlock();
  NO_UNROLL for (int chunk = ThreadIndex() / 32; chunk < kChunks; chunk += kWarps) {
    if (!(FloatOf(LoadDependent4(work->largest + chunk)) >= lowest)) continue;
    u32 at = work->first[chunk];
    NO_UNROLL for (int i = 0; i < kChunk / 32; ++i) {
      const bool here = wanted(chunk, i);
      const u32 all = Ballot(here);
      if (here) {
        const int id = chunk * kChunk + i * 32 + Lane();
        const u32 place = at + (u32)CountBits(all & ((1u << Lane()) - 1));
        const float x = IsBanned(rules, id) ? -Infinity() : FloatOf(LoadDependent4(logits + id));
        work->ids[place] = (u32)id;
        work->keys[place] = Key(x);
        work->weights[place] = WeightOf(x, largest, per_octave);
      }
      at += (u32)CountBits(all);
    }
  }
  SyncBlock();
  return (int)size;
}

INLINE u32 Philox(u64 seed, u32 counter) {
  u32 c[4] = {counter, 0, 0, 0};
  u32 key[2] = {(u32)seed, (u32)(seed >> 32)};
  NO_UNROLL for (int round = 0; round < 10; ++round) {
    const u64 a = (u64)0xd2511f53u * c[0], b = (u64)0xcd9e8d57u * c[2];
    const u32 next[4] = {(u32)(b >> 32) ^ c[1] ^ key[0], (u32)b, (u32)(a >> 32) ^ c[3] ^ key[1], (u32)a};
    UNROLL for (int i = 0; i < 4; ++i) c[i] = next[i];
    key[0] += 0x9e3779b9u;
    key[1] += 0xbb67ae85u;
  }
  return c[0];
}

NOINLINE i32 Draw(const float* logits, float largest, const Rules& rules, u64 seed, u32 steps, Workspace* work,
                  u64* scratch) {
  float lowest = -Infinity();
  if (rules.top_k > 0 && rules.top_k <= kChunks) {
    // top_k chunks have a candidate that is no smaller than the top_k-th largest of the chunks' largest.
    lowest = FloatOfKey(LargestKey([&](int i) { return Key(FloatOf(LoadDependent4(work->largest + i))); }, kChunks,
                                   rules.top_k, scratch));
  }
  const int size = Gather(logits, lowest, largest, rules, work, scratch);
  const auto key_of = [&](int i) { return work->keys[i]; };
  if (rules.top_k > 0 && rules.top_k < size) {
    const u32 key = LargestKey(key_of, size, rules.top_k, scratch);
    KeepFrom(work, size, key);
  }
  u64 total = SumFrom(work, size, 0, scratch);
  if (rules.top_p < 1.0f) {
    const double wanted = (double)rules.top_p * (double)total;
    u32 key = 0;
    NO_UNROLL for (int bit = 31; bit >= 0; --bit) {
      const u32 higher = key | (1u << bit);
      if ((double)SumFrom(work, size, higher, scratch) >= wanted) key = higher;
    }
    const u32 first = Key(largest);
    KeepFrom(work, size, key < first ? key : first);
    total = SumFrom(work, size, 0, scratch);
  }
  // floor(u total / 2^24), of 78 bits.
  const u64 u = Philox(seed, steps) >> 8;
  const u64 drawn = ((u * (total >> 32)) << 8) + ((u * (total & 0xffffffffu)) >> 24);
  // The first candidate whose sum is above: each thread takes neighbouring ones.
  const int each = (size + kThreads - 1) / kThreads;
  const int begin = (int)Min((i64)ThreadIndex() * each, size), end = (int)Min(begin + each, size);
  u64 mine = 0;
  NO_UNROLL for (int i = begin; i < end; ++i) mine += work->weights[i];
  u64 all = 0;
  u64 sum = BlockSumBefore(mine, scratch, &all);
  u32 found = 0xffffffffu;
  NO_UNROLL for (int i = begin; i < end && found == 0xffffffffu; ++i) {
    sum += work->weights[i];
    if (sum > drawn) found = (u32)i;
  }
  found = BlockMin(found, scratch);
  return found == 0xffffffffu ? 0 : (i32)work->ids[found];
}

KERNEL(sample, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const float* const logits = Operand<const float>(&args, 0);
  ph_state* const state = Operand<ph_state>(&args, 1);
  Workspace* const work = Operand<Workspace>(&args, 2);
  u32* const arrived = Operand<u32>(&args, 3);
  u64* const scratch = (u64*)SharedMemory();
  Rules rules = {FloatOf(LoadDependent4(&state->temperature)), FloatOf(LoadDependent4(&state->top_p)),
                 (i32)LoadDependent4(&state->top_k), (i32)Max(Min((i64)(i32)LoadDependent4(&state->banned_count), 16), 0),
                 state->banned};

  NO_UNROLL for (int chunk = BlockIndex() * kWarps + ThreadIndex() / 32; chunk < kChunks; chunk += kBlocks * kWarps) {
    const float largest = LargestOf(logits, chunk, rules);
    if (Lane() == 0) work->largest[chunk] = largest;
  }
  FenceDevice();
  SyncBlock();
  u32* const last = (u32*)SharedMemory();
  if (ThreadIndex() == 0) *last = AddAcquireRelease(arrived, 1) == kBlocks - 1;
  SyncBlock();
  if (*last == 0) return;
  SyncBlock();  // all have looked, before the place is used again
  if (ThreadIndex() == 0) *arrived = 0;  // for the next step

  // Keys are ordered as floats, and turned over the smallest is the largest.
  u32 turned = 0xffffffffu;
  NO_UNROLL for (int chunk = ThreadIndex(); chunk < kChunks; chunk += kThreads) {
    const u32 key = ~Key(FloatOf(LoadDependent4(work->largest + chunk)));
    turned = key < turned ? key : turned;
  }
  const float largest = FloatOfKey(~BlockMin(turned, scratch));
  const bool greedy = !(rules.temperature > 0) || largest == Infinity() || largest == -Infinity();
  const u32 steps = LoadDependent4(&state->steps);
  const i32 token = greedy ? FirstWith(largest, logits, rules, work, scratch)
                           : Draw(logits, largest, rules, (u64)LoadEarlierI64(&state->seed), steps, work, scratch);

  if (ThreadIndex() != 0 || LoadDependent4(&state->stopped) != 0) return;
  state->token = token;
  state->steps = (i32)steps + 1;
  state->past = args.past + args.rows;
  NO_UNROLL for (int i = 0; i < state->end_count && i < 16; ++i) {
    if (state->end[i] == token) state->stopped = 1;
  }
  ph_ring* const ring = state->ring;
  if (ring == 0) return;
  ring->tokens[steps % 64] = token;
  StoreReleaseSystem(&ring->count, steps + 1);
}
)text";

}  // namespace preheat::codegen::cuda::sample
