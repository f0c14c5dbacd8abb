#include "codegen/cuda/persistent_body.h"

namespace preheat::codegen::cuda::persistent {

// Attention of one row: a block has a KV head and a part of its positions, which it gets through the ring
// before the query is there. Eight positions are a step of one warp: scores and outputs by matrix products
// whose rows 0 to kGroup are the group's heads. The new position's key and value come as words, to the last
// warp of the first part. Parts are put together by all blocks of a KV head at once: each tells the others
// what it has, and makes its share of the outputs. A few positions are one part, of the last blocks, which
// have fewer tiles elsewhere. Where blocks are fewer than KV heads, a block has several, one after the other.
const char kAttention[] = R"text(
constexpr int kPositions = kTileRows * kChunk * 2 / (2 * (int)kHeadDim * 2);  // of a stage: keys, then values
constexpr int kRowBytes = (int)kHeadDim * 2;
constexpr int kStepsOfStage = kPositions / 8;
constexpr float kLowest = -0x1p100f;  // below any score, and a word as it is
constexpr int kMergePitch = (int)kHeadDim + 4;
constexpr int kPartWords = (int)kHeadDim + 2;  // of one head: outputs, maximum, sum
static_assert(kStepsOfStage <= kWarps && kWarps % kStepsOfStage == 0);

// What of the cache the block attends to: its positions, of a KV head and of each BlockCount() heads on.
struct Share {
  int kv_head;  // kKvHeads and more: nothing
  int part, parts;
  int begin, end;
};
INLINE Share ShareOf(int past) {
  const int block = BlockIndex(), blocks = BlockCount();
  if (past <= kFew) return {blocks - 1 - block, 0, 1, 0, past};
  int parts = 1;
  while (parts < kMostParts && parts * 2 * (int)kKvHeads <= blocks) parts *= 2;
  const int each = (int)Max((i64)((past + parts - 1) / parts + 7) / 8 * 8, (i64)8);
  const int part = block % parts, begin = (int)Min((i64)past, (i64)part * each);
  return {block / parts, part, parts, begin, (int)Min((i64)past, (i64)begin + each)};
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const Share share = ShareOf((int)args->past);
  NO_UNROLL for (int kv_head = share.kv_head; kv_head < kKvHeads; kv_head += BlockCount()) {
    const CacheElement* const keys = Operand<const CacheElement>(args, kKeys) + KeyOffset(args->capacity, kv_head, 0, 0);
    const CacheElement* const values = Operand<const CacheElement>(args, kValues) + ValueOffset(args->capacity, kv_head, 0, 0);
    NO_UNROLL for (int p = share.begin; p < share.end; p += kPositions) {
      const u32 bytes = (u32)Min((i64)kPositions, (i64)share.end - p) * kRowBytes;
      producer->Open(2 * bytes);
      if (Lane() == 0) {
        producer->Copy(0, keys + (i64)p * kHeadDim, bytes);
        producer->Copy(kPositions * kRowBytes, values + (i64)p * kHeadDim, bytes);
      }
      producer->Close();
    }
  }
}

// The state of one head's softmax in the lanes 4 g .. 4 g + 3: a lane's outputs are 8 i + 2 (lane % 4), and the next.
struct Softmax {
  float max, sum;
  float outputs[kHeadDim / 8][2];
};

// Eight positions, the first `valid` of which count; 16-byte pieces of a row stand where the cache has them.
INLINE void Attend(Softmax* softmax, const u32 (*query)[2], const u8* keys, const u8* values, int valid) {
  const int lane = Lane(), row = lane % 8;
  float scores[4] = {};
  UNROLL for (int i = 0; i < kHeadDim / 32; ++i) {
    u32 b[4];
    LoadMatrices(b, keys + row * kRowBytes + PieceAt(row, i * 4 + lane / 8) * 16);
    UNROLL for (int j = 0; j < 2; ++j) {
      const u32 a[4] = {query[2 * i + j][0], 0, query[2 * i + j][1], 0};
      MultiplyBf16(scores, a, b + 2 * j);
    }
  }
  const int first = lane % 4 * 2;
  const float score0 = first < valid ? scores[0] * kScaleOfTwo : kLowest;
  const float score1 = first + 1 < valid ? scores[1] * kScaleOfTwo : kLowest;
  float max = Max(score0, score1);
  max = Max(max, ShuffleXor(max, 1));
  max = Max(max, ShuffleXor(max, 2));
  max = Max(max, softmax->max);
  const float rescale = PowerOfTwo(softmax->max - max);
  const float weight0 = first < valid ? PowerOfTwo(score0 - max) : 0.0f;
  const float weight1 = first + 1 < valid ? PowerOfTwo(score1 - max) : 0.0f;
  softmax->sum = softmax->sum * rescale + weight0 + weight1;  // this lane's share
  softmax->max = max;
  // What lies behind the valid rows may be no number.
  const u32 keep = (first < valid ? 0xffffu : 0) | (first + 1 < valid ? 0xffff0000u : 0);
  const u32 a[4] = {Bf16PairFromFloats(weight0, weight1), 0, 0, 0};
  UNROLL for (int i = 0; i < kHeadDim / 32; ++i) {
    u32 b[4];
    LoadMatricesTransposed(b, values + row * kRowBytes + PieceAt(row, i * 4 + lane / 8) * 16);
    UNROLL for (int j = 0; j < 4; ++j) {
      float* const outputs = softmax->outputs[i * 4 + j];
      float sums[4] = {outputs[0] * rescale, outputs[1] * rescale, 0, 0};
      const u32 pair[2] = {b[j] & keep, 0};
      MultiplyBf16(sums, a, pair);
      outputs[0] = sums[0];
      outputs[1] = sums[1];
    }
  }
}

// One row of bf16 out of words, by a warp.
INLINE void TakeRow(FlaggedPointer<bf16> row, u8* to) {
  constexpr int kLanes = (int)kHeadDim / 4;
  Words4 words[1];
  const u32* const at = row.words + Min((i64)Lane(), (i64)kLanes - 1) * 4;
  Await<1>(words, row.tag, [&](int) { return LoadDependent16(at); }, [&](int) { return LookAgain16(at); });
  SyncWarp();
  if (Lane() < kLanes) {
    *(Words2*)(to + Lane() * 8) = {{PairOf(words[0].w[0], words[0].w[1]), PairOf(words[0].w[2], words[0].w[3])}};
  }
}

INLINE void ConsumeHead(const ph_args& args, Consumer* consumer, const Share& share, int kv_head) {
  const int lane = Lane(), head = lane / 4;
  u8* const scratch = SharedMemory() + kScratchAt;

  u32 query[kHeadDim / 16][2];
  {
    constexpr int kPairs = (int)kHeadDim / 8;
    Words2 words[kPairs];
    const auto row = Operand<const Flagged<bf16>>(&args, kQuery) + (kv_head * kGroup + (head < kGroup ? head : 0)) * kHeadDim + lane % 4 * 2;
    if (ThreadIndex() == 0) *Window() = kWindowMeanwhile;
    Await<kPairs>(words, row.tag, [&](int i) { return LoadDependent8(row.words + i * 8); },
                  [&](int i) { return LookAgain8(row.words + i * 8); });
    if (ThreadIndex() == 0) *Window() = kWindow;
    SyncWarp();
    UNROLL for (int i = 0; i < kPairs; ++i) query[i / 2][i % 2] = head < kGroup ? PairOf(words[i].w[0], words[i].w[1]) : 0;
  }

  Softmax softmax;
  softmax.max = kLowest;
  softmax.sum = 0;
  UNROLL for (int i = 0; i < kHeadDim / 8; ++i) softmax.outputs[i][0] = softmax.outputs[i][1] = 0;
  // After the cache's positions one warp of a head takes the step's own, which is not in it yet.
  const bool takes_fresh = share.part == 0 && consumer->warp == kWarps - 1;
  const int end = takes_fresh ? share.end + 1 : share.end;
  NO_UNROLL for (int p = share.begin; p < end;) {
    const int n = (int)Min((i64)kPositions, (i64)share.end - p);
    const bool fresh = n == 0;
    // A stage is of a few warps alone: the others go on to the next, and do not look at this one's barrier.
    const int step = consumer->warp - (p - share.begin) / 8 % kWarps;
    const bool mine = !fresh && step >= 0 && step < kStepsOfStage;
    const u8* keys = scratch;
    const u8* values = scratch + 8 * kRowBytes;
    int valid = 1;
    if (fresh) {
      // Eight rows of keys, eight of values: the first, and nothing.
      const auto rows = Operand<const Flagged<bf16>>(&args, kFresh) + kv_head * kHeadDim;
      for (int i = lane; i < 16 * kRowBytes / 16; i += 32) *(Words4*)(scratch + i * 16) = Words4{};
      SyncWarp();
      TakeRow(rows, scratch);
      TakeRow(rows + kKvHeads * kHeadDim, scratch + 8 * kRowBytes);
      SyncWarp();
    } else if (mine) {
      WaitStage(Full(consumer->place.stage), consumer->place.turn);
      keys = Stage(consumer->place.stage) + step * 8 * kRowBytes;
      values = keys + kPositions * kRowBytes;
      valid = (int)Min((i64)8, (i64)n - step * 8);
    } else {
      valid = 0;
    }
    if (valid > 0) Attend(&softmax, query, keys, values, valid);
    if (mine) {
      SyncWarp();
      if (lane < kWarps / kStepsOfStage) Arrive(Empty(consumer->place.stage));
    }
    if (!fresh) consumer->place.Next();
    p += fresh ? 1 : n;
  }
  softmax.sum += ShuffleXor(softmax.sum, 1);
  softmax.sum += ShuffleXor(softmax.sum, 2);

  // [kWarps][kGroup][kMergePitch]: outputs, maximum, sum.
  float* const merge = (float*)scratch;
  SyncConsumers();  // the fresh rows have been read
  if (head < kGroup) {
    float* const to = merge + (consumer->warp * kGroup + head) * kMergePitch;
    UNROLL for (int i = 0; i < kHeadDim / 8; ++i) {
      UNROLL for (int j = 0; j < 2; ++j) to[i * 8 + lane % 4 * 2 + j] = softmax.outputs[i][j];
    }
    if (lane % 4 == 0) {
      to[kHeadDim] = softmax.max;
      to[kHeadDim + 1] = softmax.sum;
    }
  }
  SyncConsumers();
  const auto result = Operand<Flagged<ResultElement>>(&args, kResult) + kv_head * kGroup * kHeadDim;
  const auto put = [&](i64 at, float value0, float value1) {
    const ResultElement* const type = 0;
    StoreRelaxed8(result.words + at, {{WordOf(type, value0, result.tag), WordOf(type, value1, result.tag)}});
  };
  // [kv head][part][head of the group][kPartWords]
  ph_args of_parts = args;
  of_parts.written_tag = (consumer->parts_tag + (args.tag - consumer->tag)) & kTagMask;
  const auto all = Operand<Flagged<f32>>(&of_parts, kParts) + (i64)kv_head * kMostParts * kGroup * kPartWords;
  const int thread = ThreadIndex();
  constexpr int kPairsOfGroup = kGroup * (int)kHeadDim / 2;
  static_assert(kPairsOfGroup <= kWarps * 32);
  if (thread < kPairsOfGroup) {
    // A pair of a head's outputs: what all warps have of it.
    const int h = thread * 2 / (int)kHeadDim, d = thread * 2 % (int)kHeadDim;
    float max = kLowest;
    UNROLL for (int w = 0; w < kWarps; ++w) max = Max(max, merge[(w * kGroup + h) * kMergePitch + kHeadDim]);
    max = ValueOf(WordOf((const f32*)0, max, 0));  // as precise as words are
    float value0 = 0, value1 = 0, sum = 0;
    UNROLL for (int w = 0; w < kWarps; ++w) {
      const float* const part = merge + (w * kGroup + h) * kMergePitch;
      const float weight = PowerOfTwo(part[kHeadDim] - max);
      value0 = FusedMultiplyAdd(weight, part[d], value0);
      value1 = FusedMultiplyAdd(weight, part[d + 1], value1);
      sum = FusedMultiplyAdd(weight, part[kHeadDim + 1], sum);
    }
    if (share.parts == 1) {
      put(h * kHeadDim + d, Divide(value0, sum), Divide(value1, sum));
    } else {
      const auto put_part = [&](int at, float first, float second) {
        const f32* const type = 0;
        StoreRelaxed8(all.words + (share.part * kGroup + h) * kPartWords + at,
                      {{WordOf(type, first, all.tag), WordOf(type, second, all.tag)}});
      };
      put_part(d, value0, value1);
      if (d == 0) put_part(kHeadDim, max, sum);
    }
  }
  SyncConsumers();  // the scratch is free
  if (share.parts == 1) return;
  // Lanes that are neighbours have a pair of outputs of neighbouring parts.
  if (thread >= kPairsOfGroup) return;
  const int out = share.part * (kPairsOfGroup / share.parts) + thread / share.parts;
  const int h = out * 2 / (int)kHeadDim, d = out * 2 % (int)kHeadDim;
  const u32* const from = all.words + (thread % share.parts * kGroup + h) * kPartWords;
  Words2 words[2];
  const auto at = [&](int i) { return from + (i == 0 ? d : (int)kHeadDim); };
  Await<2>(words, all.tag, [&](int i) { return LoadDependent8(at(i)); }, [&](int i) { return LookAgain8(at(i)); });
  SyncWarp();
  const float max = ValueOf(words[1].w[0]);
  float most = max;
  for (int mask = share.parts / 2; mask > 0; mask /= 2) most = Max(most, ShuffleXor(most, mask));
  const float rescale = PowerOfTwo(max - most);
  float value0 = ValueOf(words[0].w[0]) * rescale, value1 = ValueOf(words[0].w[1]) * rescale;
  float sum = ValueOf(words[1].w[1]) * rescale;
  for (int mask = share.parts / 2; mask > 0; mask /= 2) {
    value0 += ShuffleXor(value0, mask);
    value1 += ShuffleXor(value1, mask);
    sum += ShuffleXor(sum, mask);
  }
  if (thread % share.parts == 0) put(h * kHeadDim + d, Divide(value0, sum), Divide(value1, sum));
}

INLINE void Consume(const ph_args* link, Consumer* consumer) {
  ph_args args = *link;
  args.written_tag = args.tag;
  const Share share = ShareOf((int)args.past);
  NO_UNROLL for (int kv_head = share.kv_head; kv_head < kKvHeads; kv_head += BlockCount()) {
    ConsumeHead(args, consumer, share, kv_head);
  }
}
)text";

}  // namespace preheat::codegen::cuda::persistent
