
typedef bf16 CacheElement;
constexpr i64 kKvHeads = 8, kHeadDim = 64;
constexpr i64 kKeyPositions = 8, kKeyDims = 1, kValuePositions = 1;

INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kKeyPositions) + position / kKeyPositions;
  const i64 dims = block * (kHeadDim / kKeyDims) + d / kKeyDims;
  return (dims * kKeyPositions + position % kKeyPositions) * kKeyDims + d % kKeyDims;
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kValuePositions) + position / kValuePositions;
  return (block * kHeadDim + d) * kValuePositions + position % kValuePositions;
}

typedef f32 QueryElement;
typedef f32 ResultElement;
constexpr int kGroup = 4, kRows = 66, kMr = 6, kScoreVectors = 2, kValueVectors = 2;
constexpr i64 kQueryStride = 2048, kScratchBytes = 39296;
constexpr float kScale = 1.250000000e-01f;
INLINE VU LaneIndex() { return (VU){0, 1, 2, 3, 4, 5, 6, 7}; }
constexpr bool kAhead = false, kLastRowAlone = false;
constexpr int kTileQueries = 16;
constexpr i64 kResultStride = 2048;

constexpr int kPerUnit = KPU;
INLINE VU LoadCached(const CacheElement* p) { return LoadUnits(p); }
INLINE VF DotCached(VF acc, VU c, const Element* x) { return Dot(acc, c, Broadcast((const unit*)x)); }
INLINE VU KeepFirst(VU c) { return c & SplatUnit(0xffff); }

// A compiler's time grows faster than the size of a function, so the pieces stay apart.
#define OUTLINE static __attribute__((noinline))

constexpr int kBlock = 64;                         // positions between two looks at the maximum
constexpr int kPanels = kBlock / LANES;            // vectors of positions in a block
constexpr int kVectors = kHeadDim / LANES;         // vectors in a head
constexpr int kPanelElements = LANES * kHeadDim;   // of keys
constexpr int kLoadBytes = LANES * kPerUnit * (int)sizeof(CacheElement);
constexpr float kLowest = -3e38f;                  // below any score; finite, so that differences are no NaN

// The rows of a tile: row r is query r / kGroup's head r % kGroup.
struct Rows {
  alignas(64) Element query[kRows][kHeadDim];
  alignas(64) f32 output[kRows][kHeadDim];  // sum of exp(score - max) * value
  alignas(64) f32 sum[kRows][LANES];        // sum of exp(score - max), in parts
  float max[kRows];
  float rescale[kMr];
  alignas(64) f32 scores[kMr][kBlock];
  alignas(64) Element weights[kMr][kBlock];
};
static_assert(sizeof(Rows) <= kScratchBytes);
static_assert(kKeyPositions == LANES && kKeyDims == kPerUnit && kValuePositions == kPerUnit);

INLINE void PrefetchStep(const CacheElement* ahead, i64 load, int loads) {
  for (int b = 0; b < loads * kLoadBytes; b += 64) PrefetchL1((const u8*)ahead + load * kLoadBytes + b);
}

// scores[r] of N panels of keys for kMr rows. While it computes, `ahead` comes into the cache.
template <int N>
OUTLINE void Scores(const Element (*query)[kHeadDim], const CacheElement* keys, const CacheElement* ahead,
                   f32 (*scores)[kBlock]) {
  VF acc[kMr][N];
  UNROLL for (int r = 0; r < kMr; ++r) {
    UNROLL for (int p = 0; p < N; ++p) acc[r][p] = (VF){};
  }
  NO_UNROLL for (int d = 0; d < kHeadDim; d += kPerUnit) {
    if (kAhead) PrefetchStep(ahead, d / kPerUnit * N, N);
    VU key[N];
    UNROLL for (int p = 0; p < N; ++p) key[p] = LoadCached(keys + p * kPanelElements + d * LANES);
    UNROLL for (int r = 0; r < kMr; ++r) {
      UNROLL for (int p = 0; p < N; ++p) acc[r][p] = DotCached(acc[r][p], key[p], &query[r][d]);
    }
  }
  UNROLL for (int r = 0; r < kMr; ++r) {
    UNROLL for (int p = 0; p < N; ++p) Store(&scores[r][p * LANES], acc[r][p]);
  }
}

// e^x for x <= 0: as Exp, without what other x need. Below -88 it is exactly 0: 2^-127 as exponent bits is 0.
// (Max gives its second argument where one is NaN.)
INLINE VF ExpOfNegative(VF x) {
  const VF kRound = Splat(12582912.0f);  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const VF clamped = Max(Splat(-88.03f), x);
  const VF shifted = Fma(clamped, Splat(1.44269504f), kRound);
  const VF n = shifted - kRound;
  const VF r = Fma(n, Splat(1.90465421e-9f), Fma(n, Splat(-0.693147182f), clamped));
  VF p = Splat(1.38888889e-3f);
  p = Fma(p, r, Splat(8.33333333e-3f));
  p = Fma(p, r, Splat(4.16666667e-2f));
  p = Fma(p, r, Splat(1.66666667e-1f));
  p = Fma(p, r, Splat(0.5f));
  p = Fma(p, r, Splat(1.0f));
  p = Fma(p, r, Splat(1.0f));
  return p * (VF)(((VU)shifted - (VU)kRound + 127) << 23);
}

// A row's scores to weights exp(score - max), its sum and max brought up to date; returns by what former
// sums are to be multiplied. Positions from `visible` on get the weight 0, whatever their scores are.
OUTLINE float Softmax(const f32* scores, int panels, int visible, float* max, f32* sum, Element* weights) {
  const VF scale = Splat(kScale), lowest = Splat(kLowest);
  VF scaled[kPanels], largest = Splat(*max);
  NO_UNROLL for (int p = 0; p < panels; ++p) {
    VF s = Load(scores + p * LANES) * scale;
    if (visible < (p + 1) * LANES) s = Select(LaneIndex() < SplatUnit(visible - p * LANES), s, lowest);
    scaled[p] = s;
    largest = Max(largest, s);
  }
  const float new_max = MaxLane(largest);
  const VF rescale = ExpOfNegative(Splat(*max - new_max));
  *max = new_max;
  VF total = {};
  NO_UNROLL for (int p = 0; p < panels; ++p) {
    const VF weight = ExpOfNegative(scaled[p] - Splat(new_max));
    total += weight;
    StoreElements(weights + p * LANES, weight);
  }
  Store(sum, Fma(Load(sum), rescale, total));
  return rescale[0];
}

// output[r][0 .. N vectors) = output * rescale[r] + weights[r] values, over `positions` positions, for kMr rows.
template <int N>
OUTLINE void Weigh(const Element (*weights)[kBlock], const float* rescale, const CacheElement* values,
                  int positions, const CacheElement* ahead, f32 (*output)[kHeadDim]) {
  VF acc[kMr][N];
  UNROLL for (int r = 0; r < kMr; ++r) {
    UNROLL for (int j = 0; j < N; ++j) acc[r][j] = Load(&output[r][j * LANES]) * Splat(rescale[r]);
  }
  const int whole = positions / kPerUnit * kPerUnit;
  NO_UNROLL for (int t = 0; t < whole; t += kPerUnit) {
    if (kAhead) PrefetchStep(ahead, t / kPerUnit * N, N);
    VU value[N];
    UNROLL for (int j = 0; j < N; ++j) value[j] = LoadCached(values + t * kHeadDim + j * LANES * kPerUnit);
    UNROLL for (int r = 0; r < kMr; ++r) {
      UNROLL for (int j = 0; j < N; ++j) acc[r][j] = DotCached(acc[r][j], value[j], &weights[r][t]);
    }
  }
  UNROLL for (int r = 0; r < kMr; ++r) {
    UNROLL for (int j = 0; j < N; ++j) Store(&output[r][j * LANES], acc[r][j]);
  }
  // A last unit that is half beyond the last position: 0 times what lies there could be NaN.
  if (whole == positions) return;
  NO_UNROLL for (int j = 0; j < N; ++j) {
    const VU value = KeepFirst(LoadCached(values + whole * kHeadDim + j * LANES * kPerUnit));
    NO_UNROLL for (int r = 0; r < kMr; ++r) {
      f32* sum = &output[r][j * LANES];
      Store(sum, DotCached(Load(sum), value, &weights[r][whole]));
    }
  }
}

// One block for all rows of a tile. The last row sees `positions` of the block's positions (at most kBlock), a
// query before it one less each where `causal`.
template <bool causal>
INLINE void AttendBlock(Rows* rows, int queries, const CacheElement* keys, const CacheElement* values,
                        i64 positions, const CacheElement* next_keys) {
  const int used = (int)Min(positions, kBlock);
  const int panels = (used + LANES - 1) / LANES;
  NO_UNROLL for (int row = 0; row < queries * kGroup; row += kMr) {
    int p = 0;
    for (; p + kScoreVectors <= panels; p += kScoreVectors) {
      Scores<kScoreVectors>(rows->query + row, keys + p * kPanelElements, values + p * kPanelElements,
                            (f32(*)[kBlock]) & rows->scores[0][p * LANES]);
    }
    NO_UNROLL for (; p < panels; ++p) {
      Scores<1>(rows->query + row, keys + p * kPanelElements, values + p * kPanelElements,
                (f32(*)[kBlock]) & rows->scores[0][p * LANES]);
    }
    NO_UNROLL for (int r = 0; r < kMr; ++r) {
      // Rows that only fill up the register tile see as much as the last query.
      const i64 behind = causal ? Max(queries - 1 - (row + r) / kGroup, 0) : 0;
      const int visible = (int)Max(Min(positions - behind, used), 0);
      rows->rescale[r] = Softmax(rows->scores[r], panels, visible, &rows->max[row + r], rows->sum[row + r],
                                 rows->weights[r]);
    }
    constexpr int kRest = kVectors % kValueVectors;
    NO_UNROLL for (int j = 0; j + kValueVectors <= kVectors; j += kValueVectors) {
      Weigh<kValueVectors>(rows->weights, rows->rescale, values + j * LANES * kPerUnit, used,
                           next_keys + j * kBlock * LANES, (f32(*)[kHeadDim]) & rows->output[row][j * LANES]);
    }
    if constexpr (kRest != 0) {
      constexpr int j = kVectors - kRest;
      Weigh<kRest>(rows->weights, rows->rescale, values + j * LANES * kPerUnit, used,
                   next_keys + j * kBlock * LANES, (f32(*)[kHeadDim]) & rows->output[row][j * LANES]);
    }
  }
}

// Rows for `queries` queries from `first` on; zeros in rows that only fill up the register tile.
OUTLINE void StartRows(Rows* rows, const QueryElement* query, i64 first, int queries, i64 kv_head) {
  NO_UNROLL for (int row = 0; row < (queries * kGroup + kMr - 1) / kMr * kMr; ++row) {
    const QueryElement* from =
        query + (first + row / kGroup) * kQueryStride + (kv_head * kGroup + row % kGroup) * kHeadDim;
    const bool is_query = row < queries * kGroup;
    NO_UNROLL for (int d = 0; d < kHeadDim; d += LANES) {
      StoreElements(&rows->query[row][d], is_query ? Load(from + d) : (VF){});
      Store(&rows->output[row][d], (VF){});
    }
    Store(rows->sum[row], (VF){});
    rows->max[row] = kLowest;
  }
}

ENTRY void attention(const ph_args* args, i64 tile_begin, i64 tile_end, void* scratch) {
  const QueryElement* query = Operand<const QueryElement>(args, 0);
  const CacheElement* keys = Operand<const CacheElement>(args, 1);
  const CacheElement* values = Operand<const CacheElement>(args, 2);
  ResultElement* result = Operand<ResultElement>(args, 3);
  Rows* rows = (Rows*)scratch;
  const i64 all = kLastRowAlone ? 1 : args->rows;
  const i64 before = args->past + args->rows - all;  // the positions before the first query's
  const i64 row_blocks = (all + kTileQueries - 1) / kTileQueries;

  NO_UNROLL for (i64 tile = tile_begin; tile < tile_end; ++tile) {
    const i64 kv_head = tile / row_blocks;
    const i64 first = (row_blocks - 1 - tile % row_blocks) * kTileQueries;
    const int queries = (int)Min(kTileQueries, all - first);
    const i64 positions = before + first + queries;  // that the last query sees
    StartRows(rows, query, first, queries, kv_head);
    NO_UNROLL for (i64 begin = 0; begin < positions; begin += kBlock) {
      const CacheElement* block_keys = keys + KeyOffset(args->capacity, kv_head, begin, 0);
      const CacheElement* block_values = values + ValueOffset(args->capacity, kv_head, begin, 0);
      AttendBlock<true>(rows, queries, block_keys, block_values, positions - begin, block_keys);
    }
    NO_UNROLL for (int row = 0; row < queries * kGroup; ++row) {
      ResultElement* to =
          result + (first + row / kGroup) * kResultStride + (kv_head * kGroup + row % kGroup) * kHeadDim;
      const VF sum = Splat(Sum(Load(rows->sum[row])));
      NO_UNROLL for (int d = 0; d < kHeadDim; d += LANES) Store(to + d, Load(&rows->output[row][d]) / sum);
    }
  }
}
