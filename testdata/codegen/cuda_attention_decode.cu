
typedef bf16 CacheElement;
constexpr i64 kKvHeads = 8, kHeadDim = 128;
constexpr bool kSwizzled = true;

constexpr u32 kPieceElements = 16 / sizeof(CacheElement);
// Where the piece-th 16 bytes of a position's row stand in it.
INLINE i64 PieceAt(i64 position, i64 piece) { return kSwizzled ? (u32)piece ^ ((u32)position & 7) : (u32)piece; }
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const u32 piece = (u32)d / kPieceElements, rest = (u32)d % kPieceElements;
  return (kv_head * capacity + position) * kHeadDim + (PieceAt(position, piece) * kPieceElements + rest);
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) { return KeyOffset(capacity, kv_head, position, d); }
typedef bf16 QueryElement;
typedef bf16 ResultElement;
constexpr i64 kQueryStride = 3072, kResultStride = 3072;
constexpr float kScale = 8.838834614e-02f;
constexpr int kWarps = 8, kSplits = 16, kGroup = 3, kGroups = 8, kGroupsPerKvHead = 1, kRowLanes = 16;
constexpr i64 kLeastSplit = 256;
constexpr bool kLastRowAlone = false;

constexpr int kPer = kPer16<CacheElement>;          // dimensions of a lane: 16 bytes of a row
constexpr int kLanesPerRow = kRowLanes;             // a power of two; lanes behind the row's end have nothing
constexpr int kRowsAtOnce = 32 / kLanesPerRow;      // positions that a warp reads with one load
constexpr int kLoads = 4;                           // such loads under way at once
constexpr int kBatch = kRowsAtOnce * kLoads;        // positions that a warp takes between two looks at the maximum
constexpr int kPart = (int)kHeadDim + 2;            // of a partial result: sum of exp(s - m) v, then m, then l
constexpr float kLowest = -3e38f;                   // below any score; finite, so that differences are no NaN
constexpr bool kWholeRows = kHeadDim * sizeof(CacheElement) % 16 == 0;

// 16 bytes' worth of a cached row, zeros behind the head's end. Positions that no row sees are not read.
struct Piece {
  Words4 words;
};
INLINE Piece LoadPiece(const CacheElement* head, i64 position) {
  const CacheElement* const row = head + position * kHeadDim;
  const int d = Lane() % kLanesPerRow * kPer;
  Piece piece = {};
  if constexpr (kWholeRows) {
    if (d < kHeadDim) piece.words = LoadEarlier16(row + PieceAt(position, d / kPer) * kPer);
  } else {
    CacheElement* const to = (CacheElement*)&piece;
    UNROLL for (int i = 0; i < kPer; ++i) {
      if (d + i < kHeadDim) Put(to + i, GetDependent(row + d + i));
    }
  }
  return piece;
}

struct Batch {
  Piece keys[kLoads];
  Piece values[kLoads];
};
// Positions first + i kRowsAtOnce + (this lane's row), those in [from, to).
INLINE void LoadBatch(const CacheElement* keys, const CacheElement* values, i64 first, i64 from, i64 to, Batch* batch) {
  UNROLL for (int i = 0; i < kLoads; ++i) {
    const i64 position = first + i * kRowsAtOnce + Lane() / kLanesPerRow;
    if (position < from || position >= to) continue;
    batch->keys[i] = LoadPiece(keys, position);
    batch->values[i] = LoadPiece(values, position);
  }
}

// The state of one softmax for each head of the group, over the positions that a lane's row of lanes has seen.
struct Heads {
  float output[kGroup][kPer];
  float max[kGroup];
  float sum[kGroup];
};

INLINE void Attend(const float (*query)[kPer], const Batch& batch, i64 first, i64 end, Heads* heads) {
  float scores[kLoads][kGroup];
  UNROLL for (int i = 0; i < kLoads; ++i) {
    float key[kPer];
    Unpack(batch.keys[i].words, (const CacheElement*)0, key);
    UNROLL for (int g = 0; g < kGroup; ++g) {
      float score = 0;
      UNROLL for (int d = 0; d < kPer; ++d) score = FusedMultiplyAdd(query[g][d], key[d], score);
      UNROLL for (int mask = kLanesPerRow / 2; mask > 0; mask /= 2) score += ShuffleXor(score, mask);
      const i64 position = first + i * kRowsAtOnce + Lane() / kLanesPerRow;
      scores[i][g] = position < end ? score : kLowest;
    }
  }
  float rescale[kGroup];
  UNROLL for (int g = 0; g < kGroup; ++g) {
    float max = heads->max[g];
    UNROLL for (int i = 0; i < kLoads; ++i) max = Max(max, scores[i][g]);
    rescale[g] = PowerOfTwo(heads->max[g] - max);
    heads->max[g] = max;
    heads->sum[g] *= rescale[g];
    UNROLL for (int d = 0; d < kPer; ++d) heads->output[g][d] *= rescale[g];
  }
  UNROLL for (int i = 0; i < kLoads; ++i) {
    float value[kPer];
    Unpack(batch.values[i].words, (const CacheElement*)0, value);
    UNROLL for (int g = 0; g < kGroup; ++g) {
      // A score that is none has no weight, also where nothing was seen yet and its difference is 0.
      const float weight = scores[i][g] > kLowest ? PowerOfTwo(scores[i][g] - heads->max[g]) : 0.0f;
      heads->sum[g] += weight;
      UNROLL for (int d = 0; d < kPer; ++d) heads->output[g][d] = FusedMultiplyAdd(weight, value[d], heads->output[g][d]);
    }
  }
}

// The warp's rows of lanes put together; the result is in all of them.
INLINE void MergeInWarp(Heads* heads) {
  UNROLL for (int mask = kLanesPerRow; mask < 32; mask *= 2) {
    UNROLL for (int g = 0; g < kGroup; ++g) {
      const float max = Max(heads->max[g], ShuffleXor(heads->max[g], mask));
      const float rescale = PowerOfTwo(heads->max[g] - max);
      heads->max[g] = max;
      heads->sum[g] *= rescale;
      heads->sum[g] += ShuffleXor(heads->sum[g], mask);
      UNROLL for (int d = 0; d < kPer; ++d) {
        heads->output[g][d] *= rescale;
        heads->output[g][d] += ShuffleXor(heads->output[g][d], mask);
      }
    }
  }
}

// Element d of the output out of `count` partial results, at most kMost; their exponents are of 2. `load` reads
// element `at` of one: all are asked for before the first is used.
struct Merged {
  float max;
  float sum;
  float output;
};
template <int kMost, class Load> INLINE Merged MergeParts(int count, int d, Load load) {
  float maxima[kMost], sums[kMost], outputs[kMost];
  UNROLL for (int p = 0; p < kMost; ++p) {
    const bool there = p < count;
    maxima[p] = there ? load(p, (int)kHeadDim) : kLowest;
    sums[p] = there ? load(p, (int)kHeadDim + 1) : 0.0f;
    outputs[p] = there ? load(p, d) : 0.0f;
  }
  Merged merged = {kLowest, 0, 0};
  UNROLL for (int p = 0; p < kMost; ++p) merged.max = Max(merged.max, maxima[p]);
  UNROLL for (int p = 0; p < kMost; ++p) {
    const float weight = PowerOfTwo(maxima[p] - merged.max);
    merged.sum = FusedMultiplyAdd(weight, sums[p], merged.sum);
    merged.output = FusedMultiplyAdd(weight, outputs[p], merged.output);
  }
  return merged;
}

KERNEL(attention, kWarps * 32, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const CacheElement* const keys = Operand<const CacheElement>(&args, 1);
  const CacheElement* const values = Operand<const CacheElement>(&args, 2);
  const int warp_index = WarpIndex();

  // What this block takes: a row, some heads of a kv head, and positions [begin, end).
  const int split = BlockIndex() % kSplits;
  const i64 group = BlockIndex() / kSplits % kGroups;
  const i64 kv_head = group / kGroupsPerKvHead;
  const i64 row = BlockIndex() / (kSplits * kGroups);
  const i64 positions = args.past + (kLastRowAlone ? args.rows : row + 1);
  i64 length = (positions + kSplits - 1) / kSplits;
  length = Max((length + kWarps * kBatch - 1) / (kWarps * kBatch) * (kWarps * kBatch), kLeastSplit);
  const int splits = (int)((positions + length - 1) / length);
  if (split >= splits) return;
  const i64 begin = split * length, end = Min(begin + length, positions);
  const CacheElement* const head_keys = keys + KeyOffset(args.capacity, kv_head, 0, 0);
  const CacheElement* const head_values = values + ValueOffset(args.capacity, kv_head, 0, 0);

  // Positions before args.past are of earlier steps.
  i64 first = begin + warp_index * kBatch;
  Batch batch = {};
  LoadBatch(head_keys, head_values, first, 0, Min(end, args.past), &batch);
  WaitDependencies();
  LoadBatch(head_keys, head_values, first, args.past, end, &batch);

  float query[kGroup][kPer];
  const QueryElement* const q = Operand<const QueryElement>(&args, 0) + row * kQueryStride + group * kGroup * kHeadDim;
  UNROLL for (int g = 0; g < kGroup; ++g) {
    UNROLL for (int d = 0; d < kPer; ++d) {
      const int at = Lane() % kLanesPerRow * kPer + d;
      // Scores to the base of 2.
      query[g][d] = at < kHeadDim ? GetDependent(q + g * kHeadDim + at) * (kScale * 1.44269504f) : 0.0f;
    }
  }
  Heads heads;
  UNROLL for (int g = 0; g < kGroup; ++g) {
    heads.max[g] = kLowest;
    heads.sum[g] = 0;
    UNROLL for (int d = 0; d < kPer; ++d) heads.output[g][d] = 0;
  }
  NO_UNROLL for (; first < end; first += kWarps * kBatch) {
    Batch next = {};
    LoadBatch(head_keys, head_values, first + kWarps * kBatch, 0, end, &next);
    Attend(query, batch, first, end, &heads);
    batch = next;
  }
  MergeInWarp(&heads);

  float* const parts = (float*)SharedMemory();  // [kWarps][kGroup][kPart]
  if (Lane() < kLanesPerRow) {
    UNROLL for (int g = 0; g < kGroup; ++g) {
      float* const part = parts + (warp_index * kGroup + g) * kPart;
      UNROLL for (int d = 0; d < kPer; ++d) {
        const int at = Lane() * kPer + d;
        if (at < kHeadDim) part[at] = heads.output[g][d];
      }
      if (Lane() == 0) {
        part[kHeadDim] = heads.max[g];
        part[kHeadDim + 1] = heads.sum[g];
      }
    }
  }
  SyncBlock();

  const auto of_warp = [&](int g) {
    return [&parts, g](int p, int at) { return parts[(p * kGroup + g) * kPart + at]; };
  };
  ResultElement* const result = Operand<ResultElement>(&args, 3) + row * kResultStride + group * kGroup * kHeadDim;
  if (splits == 1) {
    NO_UNROLL for (int i = ThreadIndex(); i < kGroup * kHeadDim; i += kWarps * 32) {
      const Merged merged = MergeParts<kWarps>(kWarps, i % (int)kHeadDim, of_warp(i / (int)kHeadDim));
      Put(result + i, Divide(merged.output, merged.sum));
    }
    return;
  }
  if constexpr (kSplits > 1) {
    // This split's part, of the warps'.
    float* const all = Operand<float>(&args, 4) + group * kSplits * kGroup * kPart;
    u32* const arrived = Operand<u32>(&args, 5) + group;
    NO_UNROLL for (int i = ThreadIndex(); i < kGroup * kHeadDim; i += kWarps * 32) {
      const int g = i / (int)kHeadDim, d = i % (int)kHeadDim;
      const Merged merged = MergeParts<kWarps>(kWarps, d, of_warp(g));
      float* const part = all + (split * kGroup + g) * kPart;
      part[d] = merged.output;
      if (d == 0) {
        part[kHeadDim] = merged.max;
        part[kHeadDim + 1] = merged.sum;
      }
    }
    FenceDevice();
    SyncBlock();
    u32* const last = (u32*)SharedMemory();
    if (ThreadIndex() == 0) *last = AddAcquireRelease(arrived, 1) == (u32)splits - 1;
    SyncBlock();
    if (*last == 0) return;
    if (ThreadIndex() == 0) *arrived = 0;  // for the next step
    NO_UNROLL for (int i = ThreadIndex(); i < kGroup * kHeadDim; i += kWarps * 32) {
      const int g = i / (int)kHeadDim;
      const Merged merged = MergeParts<kSplits>(splits, i % (int)kHeadDim, [&](int p, int at) {
        return FloatOf(LoadDependent4(all + (p * kGroup + g) * kPart + at));
      });
      Put(result + i, Divide(merged.output, merged.sum));
    }
  }
}
