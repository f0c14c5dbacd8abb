typedef bf16 W;
typedef bf16 Out;
constexpr i64 kOutStride = 8192;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kStagedRows = 2;
constexpr i64 kStagedStride = 3072, kStageBlock = 4;
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

ENTRY void matmul_stage_rows(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  for (i64 row = tile_begin * kStageBlock; row < Min(tile_end * kStageBlock, args->rows); ++row) {
    StageRow(args, row, Operand<Element>(args, kStagedRows) + row * kStagedStride);
  }
}
constexpr int kA = 0;
constexpr int kWeight0 = 1;
constexpr int kWeight1 = 2;
constexpr int kOut = 3;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 8192 : 8192; }
constexpr int kMr = 6, kNr = 64, kPanels = 2;
constexpr i64 kKc = 1024, kRowBlock = 512, kAStride = 1536;
constexpr bool kPrefetch = true;

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

struct Early {};
INLINE Early Before(const ph_args*, i64, int, i64, int) { return {}; }

INLINE void Finish(const ph_args* args, i64 row, int, i64 column, int count, VF y0, VF y1, const Early&) {
  const VF gate = Biased(args, 0, column, count, y0);
  const VF up = Biased(args, 1, column, count, y1);
  StoreRun(OutputAt(args, row, column), Silu(gate) * up, count);
}

struct Tile {
  int part;
  i64 column;  // the first of the part's columns
  i64 count;   // columns; panels repeat the last one behind them
};

INLINE Tile TileAt(i64 t) {
  const i64 column = t * kNr;
  return {0, column, Min(kNr, ColumnsOf(0) - column)};
}
INLINE const W* WeightRow(const ph_args* args, const Tile& tile, int panel, int c) {
  return Operand<const W>(args, kWeight0 + panel) + (tile.column + Min(c, tile.count - 1)) * kK;
}

INLINE void FinishRow(const ph_args* args, i64 row, const Tile& tile, const float* c) {
  NO_UNROLL for (i64 i = 0; i < tile.count; i += LANES) {
    const VF y0 = Load((const f32*)c + i), y1 = Load((const f32*)c + kNr + i);
    const int count = (int)Min(LANES, tile.count - i);
    Finish(args, row, 0, tile.column + i, count, y0, y1, Before(args, row, 0, tile.column + i, count));
  }
}

constexpr i64 kVector = LANES * KPU;                    // elements of a vector of units
constexpr i64 kPanelUnits = (kKc + kVector - 1) / kVector * LANES * kNr;
constexpr i64 kTileColumns = kPanels * kNr;

// Packing reads LANES rows side by side, more than the processor's own prefetchers keep up with: a line is
// asked for when the fourth before it is read.
constexpr i64 kAhead = 4 * 64 / sizeof(W);

// Packs LANES columns of a panel: kc elements from k0 of each of their weight rows become [unit][column].
NOINLINE void PackColumns(const W* const* rows, i64 k0, i64 kc, unit* to) {
  VU block[LANES];
  i64 k = 0;
  NO_UNROLL for (; k + kVector <= kc; k += kVector) {
    UNROLL for (int i = 0; i < LANES; ++i) {
      PrefetchL1(rows[i] + k0 + k + kAhead);
      block[i] = LoadUnits(rows[i] + k0 + k);
    }
    Transpose(block);
    UNROLL for (int u = 0; u < LANES; ++u) StoreUnits(to + (k / KPU + u) * kNr, block[u]);
  }
  if constexpr (kK % kVector != 0) {
    if (k == kc) return;
    NO_UNROLL for (int i = 0; i < LANES; ++i) block[i] = LoadUnitsTail(rows[i] + k0 + k, kK % kVector);
    Transpose(block);
    UNROLL for (int u = 0; u < LANES; ++u) StoreUnits(to + (k / KPU + u) * kNr, block[u]);
  }
}

INLINE void PackPanel(const ph_args* args, const Tile& tile, int panel, i64 k0, i64 kc, unit* to) {
  NO_UNROLL for (int c = 0; c < kNr; c += LANES) {
    const W* rows[LANES];
    for (int i = 0; i < LANES; ++i) rows[i] = WeightRow(args, tile, panel, c + i);
    PackColumns(rows, k0, kc, to + c);
  }
}

// c[r][..] += a[r] panel for ROWS rows, one unit after the other: each sum is taken in the order of k.
template <int ROWS>
NOINLINE void Multiply(const unit* a, const unit* panel, i64 units, float* c, bool first) {
  constexpr int kVectors = kNr / LANES;
  VF acc[ROWS][kVectors];
  UNROLL for (int r = 0; r < ROWS; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      acc[r][v] = first ? (VF){} : Load((const f32*)c + r * kTileColumns + v * LANES);
    }
  }
  NO_UNROLL for (i64 u = 0; u < units; ++u) {
    VU b[kVectors];
    UNROLL for (int v = 0; v < kVectors; ++v) b[v] = LoadUnits(panel + u * kNr + v * LANES);
    UNROLL for (int r = 0; r < ROWS; ++r) {
      const VU s = Broadcast(a + r * kAStride + u);
      UNROLL for (int v = 0; v < kVectors; ++v) acc[r][v] = Dot(acc[r][v], s, b[v]);
    }
  }
  UNROLL for (int r = 0; r < ROWS; ++r) {
    UNROLL for (int v = 0; v < kVectors; ++v) Store((f32*)c + r * kTileColumns + v * LANES, acc[r][v]);
  }
}

// Asks for the rows begin .. end - 1 of the kTileColumns rows that will be packed next.
INLINE void PrefetchRows(const ph_args* args, const Tile& tile, i64 k0, i64 kc, i64 begin, i64 end) {
  constexpr i64 kLine = 64 / sizeof(W);
  NO_UNROLL for (i64 column = begin; column < end; ++column) {
    const W* row = WeightRow(args, tile, (int)(column / kNr), (int)(column % kNr)) + k0;
    NO_UNROLL for (i64 k = 0; k < kc; k += kLine) PrefetchL2(row + k);
  }
}

ENTRY void matmul(const ph_args* args, i64 tile_begin, i64 tile_end, void* scratch) {
  unit* const panels = (unit*)scratch;
  float* const sums = (float*)(panels + kPanels * kPanelUnits);
  const unit* const a = Operand<const unit>(args, kA);
  const i64 row_blocks = (args->rows + kRowBlock - 1) / kRowBlock;
  for (i64 t = tile_begin; t < tile_end; ++t) {
    const Tile tile = TileAt(t / row_blocks);
    const i64 row0 = t % row_blocks * kRowBlock;
    const i64 rows = Min(kRowBlock, args->rows - row0);
    for (i64 k0 = 0; k0 < kK; k0 += kKc) {
      const i64 kc = Min(kKc, kK - k0);
      const i64 units = (kc + KPU - 1) / KPU;
      const bool last = k0 + kKc >= kK;
      NO_UNROLL for (int p = 0; p < kPanels; ++p) PackPanel(args, tile, p, k0, kc, panels + p * kPanelUnits);

      // What is packed next: the next part of k, or the next tile's first.
      const bool prefetch = kPrefetch && !(last && t + 1 == tile_end);
      const Tile next_tile = last ? TileAt(Min(t + 1, tile_end - 1) / row_blocks) : tile;
      const i64 next_k0 = last ? 0 : k0 + kKc;
      const i64 next_kc = Min(kKc, kK - next_k0);
      i64 prefetched = 0;

      for (i64 m = 0; m < rows; m += kMr) {
        // The last kMr rows overlap the ones before, in sums of their own, rather than reading beyond.
        const i64 begin = rows >= kMr ? Min(m, rows - kMr) : 0;
        const unit* const a_rows = a + (row0 + begin) * kAStride + k0 / KPU;
        float* const c = sums + (kK <= kKc ? 0 : m * kTileColumns);
        NO_UNROLL for (int p = 0; p < kPanels; ++p) {
          const unit* const panel = panels + p * kPanelUnits;
          if (rows >= kMr) {
            Multiply<kMr>(a_rows, panel, units, c + p * kNr, k0 == 0);
          } else {
            for (i64 r = 0; r < rows; ++r) {
              Multiply<1>(a_rows + r * kAStride, panel, units, c + r * kTileColumns + p * kNr, k0 == 0);
            }
          }
        }
        if (prefetch) {
          const i64 end = kTileColumns * Min(m + kMr, rows) / rows;
          PrefetchRows(args, next_tile, next_k0, next_kc, prefetched, end);
          prefetched = end;
        }
        if (!last) continue;
        for (i64 r = m; r < Min(m + kMr, rows); ++r) {
          FinishRow(args, row0 + r, tile, c + (r - begin) * kTileColumns);
        }
      }
    }
  }
}
