#include "codegen/cuda/flash_body.h"

namespace preheat::codegen::cuda::attention {

const char kTilesBody[] = R"text(
// Rows of a tile are pairs of a query and a head of the kv head's group: row r is query r / kGroup, head r % kGroup.
constexpr int kTileRows = kWarps * 16;
constexpr int kTileQueries = kTileRows / kGroup;
constexpr int kTilePositions = 64;
constexpr int kDim = (int)kHeadDim;
constexpr int kStride = kDim + 8;                    // elements of a row in shared memory: no two rows of eight share banks
constexpr int kSteps = kDim / 16;                    // steps of 16 dimensions
constexpr int kPieces = kDim / 8;                    // of 16 bytes, of a row
constexpr float kLowest = -3e38f;
constexpr int kTileBytes = kTilePositions * kStride * 2;

// A tile of keys or values comes into shared memory; positions from `end` on are zeros.
INLINE void CopyTile(const bf16* from, i64 first, i64 end, bf16* to) {
  NO_UNROLL for (int i = ThreadIndex(); i < kTilePositions * kPieces; i += kWarps * 32) {
    const int position = i / kPieces, d = i % kPieces * 8;
    const bool there = first + position < end;
    CopyAsync16OrZero(to + position * kStride + d, from + (there ? first + position : 0) * kHeadDim + d, there);
  }
}

KERNEL(attention, kWarps * 32, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const int warp_index = WarpIndex(), lane = Lane();
  const i64 row_blocks = (args.rows + kTileQueries - 1) / kTileQueries;
  const i64 kv_head = BlockIndex() / row_blocks;
  // The last rows see most positions: they begin first.
  const i64 first_query = (row_blocks - 1 - BlockIndex() % row_blocks) * kTileQueries;
  const i64 queries = Min(kTileQueries, args.rows - first_query);
  const i64 positions = args.past + first_query + queries;  // that the last query sees
  const bf16* const keys = Operand<const bf16>(&args, 1) + KeyOffset(args.capacity, kv_head, 0, 0);
  const bf16* const values = Operand<const bf16>(&args, 2) + ValueOffset(args.capacity, kv_head, 0, 0);
  bf16* const query_tile = (bf16*)SharedMemory();
  bf16* const tiles = query_tile + kTileRows * kStride;  // two of keys, two of values, in turn
  WaitDependencies();

  NO_UNROLL for (int i = ThreadIndex(); i < kTileRows * kPieces; i += kWarps * 32) {
    const int row = i / kPieces, d = i % kPieces * 8;
    const bool there = row < queries * kGroup;
    const i64 query = there ? first_query + row / kGroup : 0;
    const bf16* const from = Operand<const bf16>(&args, 0) + query * kQueryStride + (kv_head * kGroup + row % kGroup) * kHeadDim;
    CopyAsync16OrZero(query_tile + row * kStride + d, from + d, there);
  }
  CopyTile(keys, 0, positions, tiles);
  CopyTile(values, 0, positions, tiles + 2 * kTilePositions * kStride);
  CommitCopies();

  u32 query[kSteps][4];
  float output[kDim / 8][4];
  UNROLL for (int j = 0; j < kDim / 8; ++j) {
    UNROLL for (int i = 0; i < 4; ++i) output[j][i] = 0;
  }
  // This lane's two rows of the warp's 16, and the positions that each sees.
  float max[2] = {kLowest, kLowest}, sum[2] = {0, 0};
  i64 visible[2];
  UNROLL for (int h = 0; h < 2; ++h) {
    const int row = warp_index * 16 + lane / 4 + 8 * h;
    visible[h] = args.past + first_query + Min(row / kGroup, queries - 1) + 1;
  }

  int turn = 0;
  NO_UNROLL for (i64 first = 0; first < positions; first += kTilePositions, turn ^= 1) {
    bf16* const key_tile = tiles + turn * kTilePositions * kStride;
    bf16* const value_tile = tiles + (2 + turn) * kTilePositions * kStride;
    if (first + kTilePositions < positions) {
      CopyTile(keys, first + kTilePositions, positions, tiles + (turn ^ 1) * kTilePositions * kStride);
      CopyTile(values, first + kTilePositions, positions, tiles + (2 + (turn ^ 1)) * kTilePositions * kStride);
    }
    CommitCopies();
    WaitCopies<1>();
    SyncBlock();
    if (first == 0) {
      UNROLL for (int s = 0; s < kSteps; ++s) {
        LoadMatrices(query[s], query_tile + (warp_index * 16 + lane % 16) * kStride + s * 16 + lane / 16 * 8);
      }
    }

    // Scores: 16 rows, 64 positions.
    float scores[8][4];
    UNROLL for (int j = 0; j < 8; ++j) {
      UNROLL for (int i = 0; i < 4; ++i) scores[j][i] = 0;
    }
    UNROLL for (int s = 0; s < kSteps; ++s) {
      UNROLL for (int j = 0; j < 8; j += 2) {
        u32 key[4];  // positions 8 j .. + 15: two fragments
        LoadMatrices(key, key_tile + (j * 8 + lane % 8 + lane / 16 * 8) * kStride + s * 16 + lane / 8 % 2 * 8);
        MultiplyBf16(scores[j], query[s], key);
        MultiplyBf16(scores[j + 1], query[s], key + 2);
      }
    }

    // To the base of 2; positions that a row does not see have no weight.
    UNROLL for (int h = 0; h < 2; ++h) {
      float largest = max[h];
      UNROLL for (int j = 0; j < 8; ++j) {
        UNROLL for (int i = 0; i < 2; ++i) {
          const i64 position = first + j * 8 + lane % 4 * 2 + i;
          float& score = scores[j][2 * h + i];
          score = position < visible[h] ? score * (kScale * 1.44269504f) : kLowest;
          largest = Max(largest, score);
        }
      }
      largest = Max(largest, ShuffleXor(largest, 1));
      largest = Max(largest, ShuffleXor(largest, 2));
      const float rescale = PowerOfTwo(max[h] - largest);
      max[h] = largest;
      float total = 0;
      UNROLL for (int j = 0; j < 8; ++j) {
        UNROLL for (int i = 0; i < 2; ++i) {
          float& score = scores[j][2 * h + i];
          score = PowerOfTwo(score - largest);
          total += score;
        }
      }
      sum[h] = FusedMultiplyAdd(sum[h], rescale, total);
      UNROLL for (int j = 0; j < kDim / 8; ++j) {
        output[j][2 * h] *= rescale;
        output[j][2 * h + 1] *= rescale;
      }
    }

    // The scores' fragments, as bf16, are those of a left factor.
    UNROLL for (int s = 0; s < 4; ++s) {
      u32 weight[4];
      UNROLL for (int i = 0; i < 4; ++i) {
        const float* const pair = &scores[2 * s + i / 2][i % 2 * 2];
        weight[i] = Bf16PairFromFloats(pair[0], pair[1]);
      }
      UNROLL for (int j = 0; j < kDim / 8; j += 2) {
        u32 value[4];  // dimensions 8 j .. + 15: two fragments
        LoadMatricesTransposed(value, value_tile + (s * 16 + lane % 16) * kStride + j * 8 + lane / 16 * 8);
        MultiplyBf16(output[j], weight, value);
        MultiplyBf16(output[j + 1], weight, value + 2);
      }
    }
    SyncBlock();  // the tiles have been read
  }

  UNROLL for (int h = 0; h < 2; ++h) {
    sum[h] += ShuffleXor(sum[h], 1);
    sum[h] += ShuffleXor(sum[h], 2);
    const int row = warp_index * 16 + lane / 4 + 8 * h;
    if (row >= queries * kGroup) continue;
    const float scale = Divide(1.0f, sum[h]);
    ResultElement* const to = Operand<ResultElement>(&args, 3) + (first_query + row / kGroup) * kResultStride +
                              (kv_head * kGroup + row % kGroup) * kHeadDim;
    UNROLL for (int j = 0; j < kDim / 8; ++j) {
      Put(to + j * 8 + lane % 4 * 2, output[j][2 * h] * scale);
      Put(to + j * 8 + lane % 4 * 2 + 1, output[j][2 * h + 1] * scale);
    }
  }
}
)text";

}  // namespace preheat::codegen::cuda::attention
