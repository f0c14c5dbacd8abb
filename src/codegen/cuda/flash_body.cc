#include "codegen/cuda/flash_body.h"

namespace preheat::codegen::cuda::attention {

const char kTilesBody[] = R"text(
// Rows of a tile are pairs of a query and a head of the kv head's group: row r is query r / kGroup, head r % kGroup.
constexpr int kTileRows = kRowWarps * 16;
constexpr int kTileQueries = kTileRows / kGroup;
constexpr int kThreads = kRowWarps * kParts * 32;
constexpr int kRoundPositions = kParts * kTilePositions;  // that the block takes at once
constexpr int kSteps = kDim / 16;                    // steps of 16 dimensions
constexpr int kRowsAtOnce = kThreads / kPieces;      // that the block copies

// kRows rows come into shared memory, the piece-th 16 bytes of row i from from(i, piece); those that are not there as
// zeros.
template <int kRows, class There, class From> INLINE void CopyRows(bf16* to, There there, From from) {
  const int first = ThreadIndex() / kPieces, piece = ThreadIndex() % kPieces;
  UNROLL for (int i = 0; i < (kRows + kRowsAtOnce - 1) / kRowsAtOnce; ++i) {
    const int row = first + i * kRowsAtOnce;
    const bool mine = (kThreads % kPieces == 0 || first < kRowsAtOnce) && (kRows % kRowsAtOnce == 0 || row < kRows);
    if (mine) CopyAsync16OrZero(to + row * kStride + piece * 8, from(there(row) ? row : 0, piece), there(row));
  }
}

// The warps that took other positions of the same rows put theirs into `parts`; the first adds them up, in order.
INLINE void MergeParts(int part, int row_warp, float* parts, Rows* rows) {
  constexpr int kFloats = kDim / 2 + 4;  // of a lane
  if (part > 0) {
    float* const to = parts + ((part - 1) * kRowWarps + row_warp) * kFloats * 32 + Lane();
    UNROLL for (int j = 0; j < kDim / 8; ++j) {
      UNROLL for (int i = 0; i < 4; ++i) to[(j * 4 + i) * 32] = rows->output[4 * j + i];
    }
    UNROLL for (int h = 0; h < 2; ++h) {
      to[(kDim / 2 + h) * 32] = rows->max[h];
      to[(kDim / 2 + 2 + h) * 32] = rows->sum[h];
    }
  }
  SyncBlock();
  if (part > 0) return;
  UNROLL for (int p = 0; p < kParts - 1; ++p) {
    const float* const from = parts + (p * kRowWarps + row_warp) * kFloats * 32 + Lane();
    float own[2], other[2];
    UNROLL for (int h = 0; h < 2; ++h) {
      const float max = from[(kDim / 2 + h) * 32];
      const float largest = Max(rows->max[h], max);  // the first part has seen position 0
      own[h] = PowerOfTwo((rows->max[h] - largest) * kScale2);
      other[h] = PowerOfTwo((max - largest) * kScale2);
      rows->max[h] = largest;
      rows->sum[h] = FusedMultiplyAdd(rows->sum[h], own[h], from[(kDim / 2 + 2 + h) * 32] * other[h]);
    }
    UNROLL for (int j = 0; j < kDim / 8; ++j) {
      UNROLL for (int i = 0; i < 4; ++i) {
        rows->output[4 * j + i] = FusedMultiplyAdd(rows->output[4 * j + i], own[i / 2], from[(j * 4 + i) * 32] * other[i / 2]);
      }
    }
  }
}

KERNEL(attention, kThreads, kBlocksPerSm, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const int lane = Lane(), warp_index = WarpIndex();
  const int row_warp = warp_index % kRowWarps, part = warp_index / kRowWarps;
  const int row_blocks = ((int)args.rows + kTileQueries - 1) / kTileQueries;
  const int kv_head = BlockIndex() / row_blocks;
  // The last rows see most positions: they begin first.
  const int first_query = (row_blocks - 1 - BlockIndex() % row_blocks) * kTileQueries;
  const int queries = (int)Min(kTileQueries, args.rows - first_query);
  const int first_visible = (int)args.past + first_query + 1;  // positions that the first query sees
  const int positions = first_visible + queries - 1;           // that the last one does
  const bf16* const keys = Operand<const bf16>(&args, 1) + KeyOffset(args.capacity, kv_head, 0, 0);
  const bf16* const values = Operand<const bf16>(&args, 2) + ValueOffset(args.capacity, kv_head, 0, 0);
  const bf16* const query_rows = Operand<const bf16>(&args, 0) + first_query * kQueryStride + kv_head * kGroup * kHeadDim;
  bf16* const query_tile = (bf16*)SharedMemory();
  bf16* const key_tile = query_tile + kTileRows * kStride;
  bf16* const value_tile = key_tile + kRoundPositions * kStride;
  const auto copy_keys = [&](int first) {
    CopyRows<kRoundPositions>(key_tile, [&](int row) { return first + row < positions; },
                              [&](int row, int piece) { return keys + (i64)(first + row) * kHeadDim + PieceAt(row, piece) * 8; });
    CommitCopies();
  };
  const auto copy_values = [&](int first) {
    CopyRows<kRoundPositions>(value_tile, [&](int row) { return first + row < positions; },
                              [&](int row, int piece) { return values + (i64)(first + row) * kHeadDim + PieceAt(row, piece) * 8; });
    CommitCopies();
  };
  WaitDependencies();
  CopyRows<kTileRows>(query_tile, [&](int row) { return row < queries * kGroup; },
                      [&](int row, int piece) {
                        return query_rows + row / kGroup * kQueryStride + row % kGroup * kHeadDim + piece * 8;
                      });
  copy_keys(0);
  copy_values(0);

  Rows rows;
  Begin(&rows);
  const Sight sight = SightOf(first_visible, queries, row_warp * 16);

  u32 query[kSteps][4];
  const bf16* const my_keys = key_tile + (part * kTilePositions + lane % 8 + lane / 16 * 8) * kStride + lane / 8 % 2 * 8;
  const bf16* const my_values = value_tile + (part * kTilePositions + lane % 16) * kStride + lane / 16 * 8;
  NO_UNROLL for (int round = 0; round < positions; round += kRoundPositions) {
    const int first = round + part * kTilePositions;
    const int next = round + kRoundPositions;
    WaitCopies<1>();  // values may still be on their way
    SyncBlock();
    if (round == 0) {
      UNROLL for (int s = 0; s < kSteps; ++s) {
        LoadMatrices(query[s], query_tile + (row_warp * 16 + lane % 16) * kStride + s * 16 + lane / 16 * 8);
      }
    }
    float scores[kTilePositions / 2];
    const bool some = first < positions;
    if (some) {
      UNROLL for (int i = 0; i < kTilePositions / 2; ++i) scores[i] = 0;
      UNROLL for (int s = 0; s < kSteps; ++s) {
        UNROLL for (int j = 0; j < 8; j += 2) {
          u32 key[4];  // positions 8 j .. + 15: two fragments
          LoadMatrices(key, my_keys + j * 8 * kStride + s * 16);
          MultiplyBf16(scores + 4 * j, query[s], key);
          MultiplyBf16(scores + 4 * j + 4, query[s], key + 2);
        }
      }
    }
    SyncBlock();  // the keys have been read
    if (next < positions) copy_keys(next);
    if (some) {
      const Rescale rescale = WeighScores(scores, first, sight, &rows);
      if (Matters(rescale)) Apply(rescale, &rows);
    }
    if (next < positions) {
      WaitCopies<1>();  // the values, while the next keys are on their way
    } else {
      WaitCopies<0>();
    }
    SyncBlock();
    if (some) {
      UNROLL for (int s = 0; s < 4; ++s) {
        u32 weight[4];
        WeightsOf(scores, s, weight);
        UNROLL for (int j = 0; j < kDim / 8; j += 2) {
          u32 value[4];  // dimensions 8 j .. + 15: two fragments
          LoadMatricesTransposed(value, my_values + s * 16 * kStride + j * 8);
          MultiplyBf16(rows.output + 4 * j, weight, value);
          MultiplyBf16(rows.output + 4 * j + 4, weight, value + 2);
        }
      }
    }
    if (next >= positions) break;
    SyncBlock();  // the values have been read
    copy_values(next);
  }

  SumLanes(&rows);
  if constexpr (kParts > 1) {
    SyncBlock();  // what is merged takes the place of keys and values
    MergeParts(part, row_warp, (float*)key_tile, &rows);
    if (part > 0) return;
  }
  ResultElement* const result = Operand<ResultElement>(&args, 3) + first_query * kResultStride + kv_head * kGroup * kHeadDim;
  StoreRows(rows, query_tile + row_warp * 16 * kStride, result, queries * kGroup - row_warp * 16, [&](int row) {
    const int r = row_warp * 16 + row;
    return result + r / kGroup * kResultStride + r % kGroup * kHeadDim;
  });
}
)text";

}  // namespace preheat::codegen::cuda::attention
