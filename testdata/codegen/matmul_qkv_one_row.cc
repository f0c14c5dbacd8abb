typedef bf16 W;
typedef bf16 Out;
constexpr i64 kOutStride = 3072;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kWeight0 = 2;
constexpr int kWeight1 = 3;
constexpr int kWeight2 = 4;
constexpr int kRotary = 5;
constexpr int kKeys = 6;
constexpr int kValues = 7;
constexpr int kOut = 8;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 3072 : part == 1 ? 1024 : 1024; }
constexpr int kRows = 8, kStreams = 8, kUnroll = 1, kLists = 2, kAhead = 512;
constexpr float kEps = 1.000000000e-05f;

constexpr i64 kWhole = kK / LANES * LANES;
constexpr int kRest = kK % LANES;

// Zeros from `begin`, a multiple of LANES, to kStaged.
INLINE void ClearFrom(i64 begin, Element* to) {
  for (i64 k = begin; k < kStaged; k += LANES) StoreElements(to + k, (VF){});
}

INLINE void StageRow(const ph_args* args, i64 row, Element* to) {
  const X* x = Operand<const X>(args, kX) + row * kXStride;
  const NormW* weight = Operand<const NormW>(args, kNorm);
  VF squares[4] = {};
  i64 k = 0;
  for (; k + 4 * LANES <= kWhole; k += 4 * LANES) {
    UNROLL for (int i = 0; i < 4; ++i) {
      const VF v = Load(x + k + i * LANES);
      squares[i] = Fma(v, v, squares[i]);
    }
  }
  for (; k < kWhole; k += LANES) {
    const VF v = Load(x + k);
    squares[0] = Fma(v, v, squares[0]);
  }
  if constexpr (kRest != 0) {
    const VF v = LoadTail(x + kWhole, kRest);
    squares[0] = Fma(v, v, squares[0]);
  }
  const float mean = Sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / (float)kK;
  const VF scale = Splat(Rsqrt(mean + kEps));
  for (k = 0; k < kWhole; k += LANES) StoreElements(to + k, Load(x + k) * scale * Load(weight + k));
  if constexpr (kRest != 0) {
    StoreElements(to + kWhole, LoadTail(x + kWhole, kRest) * scale * LoadTail(weight + kWhole, kRest));
  }
  ClearFrom(kWhole + (kRest != 0 ? LANES : 0), to);
}

typedef bf16 CacheElement;
constexpr i64 kKvHeads = 8, kHeadDim = 128;
constexpr i64 kKeyPositions = 16, kKeyDims = 2, kValuePositions = 2;

INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kKeyPositions) + position / kKeyPositions;
  const i64 dims = block * (kHeadDim / kKeyDims) + d / kKeyDims;
  return (dims * kKeyPositions + position % kKeyPositions) * kKeyDims + d % kKeyDims;
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kValuePositions) + position / kValuePositions;
  return (block * kHeadDim + d) * kValuePositions + position % kValuePositions;
}

template <class T> INLINE VF LoadRun(const T* p, int count) {
  return count == LANES ? Load(p) : LoadTail(p, count);
}
template <class T> INLINE VF LoadDependentRun(const T* p, int count) {
  return count == LANES ? LoadDependent(p) : LoadDependentTail(p, count);
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) {
  if (count == LANES) {
    Store(p, v);
  } else {
    StoreTail(p, v, count);
  }
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

constexpr i64 kHalf = kHeadDim / 2;

struct Early {
  VF cos, sin;
};
INLINE Early Before(const ph_args* args, i64 row, int part, i64 column, int count) {
  if (part == 2) return {VF{}, VF{}};
  const f32* turn = Operand<const f32>(args, kRotary) + (args->past + row) * kHeadDim + (u32)column % (u32)kHeadDim;  // [2][kHalf]
  return {LoadRun(turn, count), LoadRun(turn + kHalf, count)};
}

INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  CacheElement* cache = keys ? Operand<CacheElement>(args, kKeys) : Operand<CacheElement>(args, kValues);
  const i64 position = args->past + row;
  StoreEach<CacheElement>(y, count, [&](int i) {
    return cache + (keys ? KeyOffset(args->capacity, head, position, d + i) : ValueOffset(args->capacity, head, position, d + i));
  });
}

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF y1, const Early& early) {
  const i64 head = (u32)column / (u32)kHeadDim, d = (u32)column % (u32)kHeadDim;
  y0 = Biased(args, part, column, count, y0);
  y1 = Biased(args, part, column + kHalf, count, y1);
  if (part != 2) {
    const VF turned = y0 * early.cos - y1 * early.sin;
    y1 = y1 * early.cos + y0 * early.sin;
    y0 = turned;
  }
  if (part != 0) {
    Append(args, row, part == 1, head, d, count, y0);
    Append(args, row, part == 1, head, d + kHalf, count, y1);
  } else {
    StoreRun(OutputAt(args, row, column), y0, count);
    StoreRun(OutputAt(args, row, column + kHalf), y1, count);
  }
}

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  constexpr i64 kTilesPerHead = kHalf / kRows;
  i64 head = t / kTilesPerHead;
  int part = 0;
  for (; part < 2 && head >= ColumnsOf(part) / kHeadDim; ++part) head -= ColumnsOf(part) / kHeadDim;
  const i64 column = head * kHeadDim + t % kTilesPerHead * kRows;
  return {part, column, kRows, part, column + kHalf};
}

// sums[r] in its lanes: the product of x and rows[r], still to be added across lanes.
template <int ROWS> INLINE void DotRows(const Element* x, const W* const* rows, VF* sums) {
  constexpr i64 kVector = LANES * KPU, kStep = kUnroll * kVector;
  constexpr i64 kSteps = kK / kStep * kStep, kVectors = kK / kVector * kVector;
  VF acc[ROWS][kUnroll] = {};
  NO_UNROLL for (i64 k = 0; k < kSteps; k += kStep) {
    UNROLL for (int u = 0; u < kUnroll; ++u) {
      const VU a = LoadUnits(x + k + u * kVector);
      UNROLL for (int r = 0; r < ROWS; ++r) {
        const W* w = rows[r] + k + u * kVector;
        if constexpr (kAhead != 0) PrefetchL1((const char*)w + kAhead);
        acc[r][u] = Dot(acc[r][u], a, LoadUnits(w));
      }
    }
  }
  NO_UNROLL for (i64 k = kSteps; k < kVectors; k += kVector) {
    const VU a = LoadUnits(x + k);
    UNROLL for (int r = 0; r < ROWS; ++r) acc[r][0] = Dot(acc[r][0], a, LoadUnits(rows[r] + k));
  }
  if constexpr (kVectors < kK) {
    const VU a = LoadUnits(x + kVectors);
    UNROLL for (int r = 0; r < ROWS; ++r) {
      acc[r][0] = Dot(acc[r][0], a, LoadUnitsTail(rows[r] + kVectors, kK - kVectors));
    }
  }
  UNROLL for (int r = 0; r < ROWS; ++r) {
    sums[r] = acc[r][0];
    UNROLL for (int u = 1; u < kUnroll; ++u) sums[r] += acc[r][u];
  }
}

// The products of columns column .. column + kRows - 1 of a part, its last one repeated where there are less.
INLINE VF Columns(const ph_args* args, int part, i64 column, const Element* x) {
  const W* weight = Operand<const W>(args, kWeight0 + part);
  const W* rows[kRows];
  UNROLL for (int r = 0; r < kRows; ++r) rows[r] = weight + Min(column + r, ColumnsOf(part) - 1) * kK;
  VF sums[kRows];
  UNROLL for (int r = 0; r < kRows; r += kStreams) DotRows<kStreams>(x, rows + r, sums + r);
  return SumEach<kRows>(sums);
}

ENTRY void matmul_stage(const ph_args* args, i64, i64, void* scratch) {
  StageRow(args, 0, (Element*)scratch);
}

ENTRY void matmul(const ph_args* args, i64 tile_begin, i64 tile_end, void* scratch) {
  const Element* x = (const Element*)scratch;
  for (i64 t = tile_begin; t < tile_end; ++t) {
    const Tile tile = TileAt(t);
    const VF y0 = Columns(args, tile.part, tile.column, x);
    VF y1 = y0;
    if constexpr (kLists == 2) y1 = Columns(args, tile.part1, tile.column1, x);
    if (tile.count == kRows) {
      Finish(args, 0, tile.part, tile.column, kRows, y0, y1, Before(args, 0, tile.part, tile.column, kRows));
    } else {
      for (int i = 0; i < tile.count; ++i) {
        Finish(args, 0, tile.part, tile.column + i, 1, Splat(y0[i]), Splat(y1[i]),
               Before(args, 0, tile.part, tile.column + i, 1));
      }
    }
  }
}
