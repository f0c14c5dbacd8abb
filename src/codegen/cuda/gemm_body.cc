#include "codegen/cuda/gemm_body.h"

namespace preheat::codegen::cuda {

const char kStageRowsKernel[] = R"text(
KERNEL(matmul_stage_rows, team::kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const team::Before before = team::StageBefore(&args);
  WaitDependencies();
  const i64 row = BlockIndex();
  team::StageRow(&args, row, Operand<Element>(&args, kStagedRows) + row * kAStride, before);
}
)text";

const char kHandOnKernel[] = R"text(
KERNEL(hand_on, team::kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const team::Before before = team::StageBefore(&args);
  WaitDependencies();
  const i64 row = BlockIndex();
  const float squares = team::StageRow(&args, row, Operand<Element>(&args, kFirstRows) + row * kAStride, before);
  for (int part = ThreadIndex(); part < kSumsOfRow; part += team::kThreads) {
    Put(Operand<f32>(&args, kFirstSquares) + part * HandedStride(args.rows) + row, part == 0 ? squares : 0.0f);
  }
}
)text";

// Of kTotal columns of a list; for rotary pairs, first halves of heads, one head after the other.
const char kColumnPlaces[] = R"text(
struct ColumnPlace {
  int part;
  i64 column;
  int run;  // columns from here on that lie side by side and finish alike
};
INLINE ColumnPlace PlaceOfColumn(i64 i, int list) {
  if constexpr (kPairsInHeads) {
    i64 head = i / warp::kPairDistance;
    int part = 0;
    for (; part < 2 && head >= ColumnsOf(part) / (2 * warp::kPairDistance); ++part) {
      head -= ColumnsOf(part) / (2 * warp::kPairDistance);
    }
    const i64 d = i % warp::kPairDistance;
    return {part, (2 * head + list) * warp::kPairDistance + d, (int)(warp::kPairDistance - d)};
  }
  return {list, i, (int)Min(kTotal - i, 1 << 20)};
}
INLINE const W* WeightRow(const ph_args* args, i64 i, int list) {
  const ColumnPlace place = PlaceOfColumn(Min(i, kTotal - 1), list);
  return Operand<const W>(args, kWeight0 + place.part) + place.column * kK;
}
)text";

const char kFinishTileRow[] = R"text(
// By one warp: `count` columns of each list from the list's i-th on; their sums stand at y0 and y1.
INLINE void FinishColumns(const ph_args* args, i64 row, i64 i, int count, const float* y0, const float* y1) {
  NO_UNROLL for (int done = 0; done < count;) {
    const ColumnPlace place = PlaceOfColumn(i + done, 0);
    const int run = (int)Min(Min(place.run, count - done), 32);
    const warp::VF first = {Lane() < run ? y0[done + Lane()] : 0.0f};
    const warp::VF second = {kLists == 2 && Lane() < run ? y1[done + Lane()] : 0.0f};
    warp::Finish(args, row, place.part, place.column, run, first, second,
                 warp::Before(args, row, place.part, place.column, run));
    done += run;
  }
}
)text";

const char kGemmMma[] = R"text(
constexpr int kStep = 32;                    // of k
constexpr int kStride = kStep + 8;           // elements of a row in shared memory: no two rows of eight share banks
constexpr int kWarpsAcross = 2;              // warps over the tile's rows; the rest over its columns
constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kWarpRows = kTileRows / kWarpsAcross, kWarpColumns = kTileColumns / (kWarps / kWarpsAcross);
constexpr int kListColumns = kTileColumns / kLists;
constexpr int kStageElements = (kTileRows + kTileColumns) * kStride;
constexpr int kSumStride = kTileColumns + 4;
constexpr i64 kSteps = (kK + kStep - 1) / kStep;

// Step s of both factors into shared memory; zeros behind the last row, column and k.
INLINE void CopyStep(const bf16* const* a_rows, const bf16* const* w_rows, i64 step, bf16* to) {
  constexpr int kPieces = kStep / 8;
  const i64 k = step * kStep + ThreadIndex() % kPieces * 8;
  const bool inside = k < kK;
  constexpr int kRowsAtOnce = kThreads / kPieces;
  bf16* const mine = to + ThreadIndex() / kPieces * kStride + ThreadIndex() % kPieces * 8;
  UNROLL for (int i = 0; i < kTileRows / kRowsAtOnce; ++i) {
    const bool there = inside && a_rows[i] != 0;
    CopyAsync16OrZero(mine + i * kRowsAtOnce * kStride, there ? a_rows[i] + k : w_rows[0], there);
  }
  UNROLL for (int i = 0; i < kTileColumns / kRowsAtOnce; ++i) {
    CopyAsync16OrZero(mine + (kTileRows + i * kRowsAtOnce) * kStride, inside ? w_rows[i] + k : w_rows[i], inside);
  }
}

KERNEL(matmul, kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const int warp_index = WarpIndex(), lane = Lane();
  const i64 row_blocks = (args.rows + kTileRows - 1) / kTileRows;
  const i64 first_row = BlockIndex() % row_blocks * kTileRows;
  const i64 first_column = BlockIndex() / row_blocks * kListColumns;
  bf16* const stages = (bf16*)SharedMemory();

  // The rows that this thread copies pieces of.
  constexpr int kRowsAtOnce = kThreads / (kStep / 8);
  const bf16* a_rows[kTileRows / kRowsAtOnce];
  const bf16* w_rows[kTileColumns / kRowsAtOnce];
  UNROLL for (int i = 0; i < kTileRows / kRowsAtOnce; ++i) {
    const i64 row = first_row + i * kRowsAtOnce + ThreadIndex() / (kStep / 8);
    a_rows[i] = row < args.rows ? Operand<const bf16>(&args, kA) + row * kAStride : 0;
  }
  UNROLL for (int i = 0; i < kTileColumns / kRowsAtOnce; ++i) {
    const int column = i * kRowsAtOnce + ThreadIndex() / (kStep / 8);
    w_rows[i] = WeightRow(&args, first_column + column % kListColumns, column / kListColumns);
  }
  WaitDependencies();
  UNROLL for (int s = 0; s < kStages - 1; ++s) {
    if (s < kSteps) CopyStep(a_rows, w_rows, s, stages + s * kStageElements);
    CommitCopies();
  }

  constexpr int kM = kWarpRows / 16, kN = kWarpColumns / 8;
  float sums[kM][kN][4];
  UNROLL for (int m = 0; m < kM; ++m) {
    UNROLL for (int n = 0; n < kN; ++n) {
      UNROLL for (int i = 0; i < 4; ++i) sums[m][n][i] = 0;
    }
  }
  const int warp_row = warp_index % kWarpsAcross * kWarpRows, warp_column = warp_index / kWarpsAcross * kWarpColumns;
  NO_UNROLL for (i64 step = 0; step < kSteps; ++step) {
    WaitCopies<kStages - 2>();
    SyncBlock();  // the step is there, and the one before has been read
    const i64 next = step + kStages - 1;
    if (next < kSteps) CopyStep(a_rows, w_rows, next, stages + next % kStages * kStageElements);
    CommitCopies();
    const bf16* const a = stages + step % kStages * kStageElements;
    const bf16* const w = a + kTileRows * kStride;
    UNROLL for (int k = 0; k < kStep; k += 16) {
      u32 left[kM][4], right[kN][2];
      UNROLL for (int m = 0; m < kM; ++m) {
        LoadMatrices(left[m], a + (warp_row + m * 16 + lane % 16) * kStride + k + lane / 16 * 8);
      }
      UNROLL for (int n = 0; n < kN; n += 2) {
        u32 two[4];
        LoadMatrices(two, w + (warp_column + n * 8 + lane % 8 + lane / 16 * 8) * kStride + k + lane / 8 % 2 * 8);
        right[n][0] = two[0];
        right[n][1] = two[1];
        right[n + 1][0] = two[2];
        right[n + 1][1] = two[3];
      }
      UNROLL for (int m = 0; m < kM; ++m) {
        UNROLL for (int n = 0; n < kN; ++n) MultiplyBf16(sums[m][n], left[m], right[n]);
      }
    }
  }
  WaitCopies<0>();
  SyncBlock();

  float* const tile = (float*)SharedMemory();
  UNROLL for (int m = 0; m < kM; ++m) {
    UNROLL for (int n = 0; n < kN; ++n) {
      float* const to = tile + (warp_row + m * 16 + lane / 4) * kSumStride + warp_column + n * 8 + lane % 4 * 2;
      to[0] = sums[m][n][0];
      to[1] = sums[m][n][1];
      to[8 * kSumStride] = sums[m][n][2];
      to[8 * kSumStride + 1] = sums[m][n][3];
    }
  }
  SyncBlock();
  const int rows = (int)Min(kTileRows, args.rows - first_row);
  const int columns = (int)Min(kListColumns, kTotal - first_column);
  NO_UNROLL for (int row = warp_index; row < rows; row += kWarps) {
    const float* const y = tile + row * kSumStride;
    FinishColumns(&args, first_row + row, first_column, columns, y, y + kListColumns);
  }
}
)text";

const char kGemmWarp[] = R"text(
constexpr int kRowsAtOnce = 8, kWarps = 8;

KERNEL(matmul, kWarps * 32, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  WaitDependencies();
  const i64 row_blocks = (args.rows + kRowsAtOnce - 1) / kRowsAtOnce;
  const i64 first_row = BlockIndex() % row_blocks * kRowsAtOnce;
  const int rows = (int)Min(kRowsAtOnce, args.rows - first_row);
  const i64 column = BlockIndex() / row_blocks * kWarps + WarpIndex();
  if (column >= kTotal) return;
  const Element* const a = Operand<const Element>(&args, kA) + first_row * kAStride;
  float sums[kLists][kRowsAtOnce];
  UNROLL for (int list = 0; list < kLists; ++list) {
    const W* const w = WeightRow(&args, column, list);
    UNROLL for (int r = 0; r < kRowsAtOnce; ++r) sums[list][r] = 0;
    NO_UNROLL for (i64 k = Lane(); k < kK; k += 32) {
      const float weight = Get(w + k);
      UNROLL for (int r = 0; r < kRowsAtOnce; ++r) {
        if (r < rows) sums[list][r] = FusedMultiplyAdd(weight, GetDependent(a + r * kAStride + k), sums[list][r]);
      }
    }
    UNROLL for (int r = 0; r < kRowsAtOnce; ++r) sums[list][r] = WarpSum(sums[list][r]);
  }
  UNROLL for (int r = 0; r < kRowsAtOnce; ++r) {
    if (r >= rows) break;
    const ColumnPlace place = PlaceOfColumn(column, 0);
    warp::Finish(&args, first_row + r, place.part, place.column, 1, warp::Splat(sums[0][r]),
                 warp::Splat(sums[kLists - 1][r]), warp::Before(&args, first_row + r, place.part, place.column, 1));
  }
}
)text";

}  // namespace preheat::codegen::cuda
