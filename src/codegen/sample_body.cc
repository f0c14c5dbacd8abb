#include "codegen/sample_body.h"

namespace preheat::codegen::sample {

// One pass over all logits finds the largest of each chunk. Greedy then looks into one chunk; with top-k only
// chunks whose largest can be among the k are looked at again, and all that follows works on the few gathered
// there.
const char kSampleBody[] = R"(
#define OUTLINE static __attribute__((noinline))

constexpr int kChunk = 256;
constexpr int kChunks = (kVocab + kChunk - 1) / kChunk;
constexpr float kInfinity = __builtin_inff();

struct Workspace {
  alignas(64) float largest[kChunks];      // of each chunk's candidates; -infinity where it has none
  alignas(64) u32 ids[kVocab + LANES];     // the gathered candidates, in the order of ids
  alignas(64) f32 logits[kVocab + LANES];
  alignas(64) u32 keys[kVocab + LANES];    // ordered as the logits are
  alignas(64) u32 weights[kVocab + LANES];
};
static_assert(sizeof(Workspace) <= kWorkspaceBytes);

INLINE int BannedCount(const ph_state* state) { return (int)Max(Min(state->banned_count, 16), 0); }

INLINE bool IsBanned(const ph_state* state, i32 id) {
  NO_UNROLL for (int b = 0; b < BannedCount(state); ++b) {
    if (state->banned[b] == id) return true;
  }
  return false;
}

INLINE float MaxWithoutNan(float x, float largest) { return x > largest ? x : largest; }

OUTLINE float FindLargest(const f32* logits, const ph_state* state, Workspace* work) {
  constexpr int kSums = 4;  // apart, since one comparison waits for the other
  NO_UNROLL for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int begin = chunk * kChunk, end = (int)Min(begin + kChunk, kVocab);
    VF parts[kSums];
    UNROLL for (int j = 0; j < kSums; ++j) parts[j] = Splat(-kInfinity);
    int id = begin;
    NO_UNROLL for (; id + kSums * LANES <= end; id += kSums * LANES) {
      UNROLL for (int j = 0; j < kSums; ++j) {
        const VF x = Load(logits + id + j * LANES);
        parts[j] = Select(x > parts[j], x, parts[j]);
      }
    }
    float largest = -kInfinity;
    NO_UNROLL for (; id < end; ++id) largest = MaxWithoutNan(Get(logits + id), largest);
    UNROLL for (int j = 1; j < kSums; ++j) parts[0] = Max(parts[0], parts[j]);
    work->largest[chunk] = MaxWithoutNan(MaxLane(parts[0]), largest);
  }
  // The few chunks with banned ids again.
  NO_UNROLL for (int b = 0; b < BannedCount(state); ++b) {
    const i32 banned = state->banned[b];
    if (banned < 0 || banned >= kVocab) continue;
    const int begin = banned / kChunk * kChunk, end = (int)Min(begin + kChunk, kVocab);
    float largest = -kInfinity;
    NO_UNROLL for (int id = begin; id < end; ++id) {
      if (!IsBanned(state, id)) largest = MaxWithoutNan(Get(logits + id), largest);
    }
    work->largest[begin / kChunk] = largest;
  }
  float largest = -kInfinity;
  NO_UNROLL for (int chunk = 0; chunk < kChunks; ++chunk) largest = MaxWithoutNan(work->largest[chunk], largest);
  return largest;
}

OUTLINE i32 FirstWith(float logit, const f32* logits, const ph_state* state, const Workspace* work) {
  NO_UNROLL for (int chunk = 0; chunk < kChunks; ++chunk) {
    if (work->largest[chunk] != logit) continue;
    const int begin = chunk * kChunk, end = (int)Min(begin + kChunk, kVocab);
    NO_UNROLL for (int id = begin; id < end; ++id) {
      if (Get(logits + id) == logit && !IsBanned(state, id)) return id;
    }
  }
  NO_UNROLL for (i32 id = 0; id < kVocab; ++id) {
    if (!IsBanned(state, id)) return id;
  }
  return 0;
}

// Unsigned integers in the order of floats; x is no NaN. Adding 0 makes -0 +0.
INLINE u32 Key(float x) {
  const u32 bits = __builtin_bit_cast(u32, x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

// The count-th largest key. REQUIRES: 1 <= count <= size.
OUTLINE u32 LargestKey(const u32* keys, int size, int count) {
  u32 key = 0;
  NO_UNROLL for (int bit = 31; bit >= 0; --bit) {
    const u32 higher = key | (1u << bit);
    int above = 0;
    for (int i = 0; i < size; ++i) above += keys[i] >= higher;
    if (above >= count) key = higher;
  }
  return key;
}

OUTLINE u64 SumFrom(const u32* keys, const u32* weights, int size, u32 lowest) {
  u64 sum = 0;
  for (int i = 0; i < size; ++i) sum += keys[i] >= lowest ? weights[i] : 0;
  return sum;
}

OUTLINE void KeepFrom(const u32* keys, u32* weights, int size, u32 lowest) {
  for (int i = 0; i < size; ++i) weights[i] = keys[i] >= lowest ? weights[i] : 0;
}

// The candidates with a logit of at least `lowest`, in the order of ids; a banned id among them gets -infinity, whose
// weight is 0. Returns how many.
OUTLINE int Gather(const f32* logits, float lowest, const ph_state* state, Workspace* work) {
  int size = 0;
  NO_UNROLL for (int chunk = 0; chunk < kChunks; ++chunk) {
    if (!(work->largest[chunk] >= lowest)) continue;
    const int begin = chunk * kChunk, end = (int)Min(begin + kChunk, kVocab);
    NO_UNROLL for (int id = begin; id < end; ++id) {
      const float x = Get(logits + id);
      work->ids[size] = (u32)id;
      Put(&work->logits[size], x);
      size += x >= lowest;
    }
  }
  NO_UNROLL for (int b = 0; b < BannedCount(state); ++b) {
    const i32 banned = state->banned[b];
    int low = 0, high = size;
    while (low < high) {
      const int middle = (low + high) / 2;
      if ((i32)work->ids[middle] < banned) low = middle + 1; else high = middle;
    }
    if (low < size && (i32)work->ids[low] == banned) Put(&work->logits[low], -kInfinity);
  }
  return size;
}

OUTLINE void Weights(int size, float largest, float temperature, Workspace* work) {
  const VF kRound = Splat(12582912.0f);  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const VF per_octave = Splat(1.44269504f / (temperature > 1e-6f ? temperature : 1e-6f));
  NO_UNROLL for (int i = 0; i < size; i += LANES) {
    const VF octaves = (Load(&work->logits[i]) - Splat(largest)) * per_octave;
    const VF t = Select(octaves > -40.0f, octaves, Splat(-40.0f));
    const VF shifted = t + kRound;
    const VF f = t - (shifted - kRound);
    VF p = Splat(0.000154035304f);
    p = Fma(p, f, Splat(0.00133335581f));
    p = Fma(p, f, Splat(0.00961812911f));
    p = Fma(p, f, Splat(0.0555041087f));
    p = Fma(p, f, Splat(0.240226507f));
    p = Fma(p, f, Splat(0.693147182f));
    p = Fma(p, f, Splat(1.0f));
    const VU power = ((VU)shifted - (VU)kRound + (127 + 30)) << 23;
    StoreUnits((unit*)&work->weights[i], __builtin_convertvector(p * (VF)power, VU));
  }
  NO_UNROLL for (int i = 0; i < size; ++i) work->keys[i] = Key(Get(&work->logits[i]));
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

OUTLINE i32 Draw(const f32* logits, float largest, const ph_state* state, Workspace* work) {
  const int top_k = state->top_k;
  float lowest = -kInfinity;
  if (top_k > 0 && top_k <= kChunks) {
    // top_k chunks have a candidate that is no smaller than the top_k-th largest of the chunks' largest.
    NO_UNROLL for (int i = 0; i < kChunks; ++i) work->keys[i] = Key(work->largest[i]);
    const u32 key = LargestKey(work->keys, kChunks, top_k);
    lowest = __builtin_bit_cast(float, (key >> 31) != 0 ? key & 0x7fffffffu : ~key);
  }
  const int size = Gather(logits, lowest, state, work);
  Weights(size, largest, state->temperature, work);
  if (top_k > 0 && top_k < size) KeepFrom(work->keys, work->weights, size, LargestKey(work->keys, size, top_k));
  u64 total = SumFrom(work->keys, work->weights, size, 0);
  if (state->top_p < 1.0f) {
    const double wanted = (double)state->top_p * (double)total;
    u32 key = 0;
    NO_UNROLL for (int bit = 31; bit >= 0; --bit) {
      const u32 higher = key | (1u << bit);
      if ((double)SumFrom(work->keys, work->weights, size, higher) >= wanted) key = higher;
    }
    const u32 first = Key(largest);
    KeepFrom(work->keys, work->weights, size, key < first ? key : first);
    total = SumFrom(work->keys, work->weights, size, 0);
  }
  const u64 u = Philox(state->seed, (u32)state->steps) >> 8;
  const u64 drawn = (u64)(((unsigned __int128)u * total) >> 24);
  u64 sum = 0;
  NO_UNROLL for (int i = 0; i < size; ++i) {
    sum += work->weights[i];
    if (sum > drawn) return (i32)work->ids[i];
  }
  return 0;  // never: drawn < total
}

ENTRY void sample(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  if (tile_begin >= tile_end) return;
  const f32* logits = Operand<const f32>(args, 0);
  ph_state* state = Operand<ph_state>(args, 1);
  Workspace* work = Operand<Workspace>(args, 2);
  const float largest = FindLargest(logits, state, work);
  const bool greedy = !(state->temperature > 0) || largest == kInfinity || largest == -kInfinity;
  state->token = greedy ? FirstWith(largest, logits, state, work) : Draw(logits, largest, state, work);
  state->steps += 1;
}
)";

}  // namespace preheat::codegen::sample
