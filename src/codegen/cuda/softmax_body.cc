#include "codegen/cuda/softmax_body.h"

namespace preheat::codegen::cuda::attention {

const char kSoftmaxWords[] = R"text(
constexpr int kDim = (int)kHeadDim;
constexpr int kStride = kDim + 8;                // elements of a row in shared memory: no two rows of eight share banks
constexpr int kPieces = kDim / 8;                // of 16 bytes, of a row
constexpr float kLowest = -3e38f;                // below any score; finite, so that differences are no NaN
constexpr float kScale2 = kScale * 1.44269504f;  // scores to the base of 2

// A warp's softmax of 16 rows; of a lane's rows, lane / 4 and 8 further down.
struct Rows {
  float output[kDim / 2];
  float max[2];
  float sum[2];
};

INLINE void Begin(Rows* rows) {
  UNROLL for (int h = 0; h < 2; ++h) {
    rows->max[h] = kLowest;
    rows->sum[h] = 0;
  }
  UNROLL for (int i = 0; i < kDim / 2; ++i) rows->output[i] = 0;
}

// How many positions a lane's two rows see, and how many each of the warp's rows sees.
struct Sight {
  int visible[2];
  int to_all;
};
// `first_row`: the warp's first of the block's; rows behind the last query's are taken for its.
INLINE Sight SightOf(int first_visible, int queries, int first_row) {
  Sight sight;
  UNROLL for (int h = 0; h < 2; ++h) {
    sight.visible[h] = first_visible + (int)Min((first_row + Lane() / 4 + 8 * h) / kGroup, queries - 1);
  }
  sight.to_all = first_visible + (int)Min(first_row / kGroup, queries - 1);
  return sight;
}

// What the lane's two rows have so far is worth, now that there are larger scores.
struct Rescale {
  float by[2];
};
// Scores of kTilePositions positions from `first` on become weights, and are summed; what they weigh is added after
// the Rescale is applied. Few warps share a scheduler: chains of operations that wait for each other are kept short.
INLINE Rescale WeighScores(float (&scores)[kTilePositions / 2], int first, const Sight& sight, Rows* rows) {
  constexpr int kBlocks = kTilePositions / 8, kChains = 4;
  if (first + kTilePositions > sight.to_all) {
    UNROLL for (int i = 0; i < kTilePositions / 2; ++i) {
      if (first + i / 4 * 8 + Lane() % 4 * 2 + i % 2 >= sight.visible[i / 2 % 2]) scores[i] = kLowest;
    }
  }
  float largest[2][kChains], total[2][kChains], base[2];
  UNROLL for (int h = 0; h < 2; ++h) {
    UNROLL for (int j = 0; j < kBlocks; ++j) {
      const float larger = LargerOf(scores[4 * j + 2 * h], scores[4 * j + 2 * h + 1]);
      largest[h][j % kChains] = j < kChains ? larger : LargerOf(largest[h][j % kChains], larger);
    }
  }
  float max[2];
  UNROLL for (int h = 0; h < 2; ++h) {
    max[h] = LargerOf(LargerOf(largest[h][0], largest[h][1]), LargerOf(largest[h][2], largest[h][3]));
    max[h] = LargerOf(max[h], rows->max[h]);
  }
  UNROLL for (int h = 0; h < 2; ++h) max[h] = LargerOf(max[h], ShuffleXor(max[h], 1));
  UNROLL for (int h = 0; h < 2; ++h) max[h] = LargerOf(max[h], ShuffleXor(max[h], 2));
  Rescale rescale;
  UNROLL for (int h = 0; h < 2; ++h) {
    // A row that has seen nothing yet weighs nothing.
    base[h] = max[h] > kLowest ? max[h] * kScale2 : 0.0f;
    rescale.by[h] = PowerOfTwo(FusedMultiplyAdd(rows->max[h], kScale2, -base[h]));
    rows->max[h] = max[h];
  }
  UNROLL for (int j = 0; j < kBlocks; ++j) {
    UNROLL for (int h = 0; h < 2; ++h) {
      float* const pair = scores + 4 * j + 2 * h;
      UNROLL for (int i = 0; i < 2; ++i) pair[i] = PowerOfTwo(FusedMultiplyAdd(pair[i], kScale2, -base[h]));
      total[h][j % kChains] = (j < kChains ? 0.0f : total[h][j % kChains]) + (pair[0] + pair[1]);
    }
  }
  UNROLL for (int h = 0; h < 2; ++h) {
    const float sum = (total[h][0] + total[h][1]) + (total[h][2] + total[h][3]);
    rows->sum[h] = FusedMultiplyAdd(rows->sum[h], rescale.by[h], sum);
  }
  return rescale;
}
// Whether any of the warp's rows is worth less than it was.
INLINE bool Matters(const Rescale& rescale) { return Ballot(rescale.by[0] != 1.0f || rescale.by[1] != 1.0f) != 0; }
INLINE void Apply(const Rescale& rescale, Rows* rows) {
  UNROLL for (int i = 0; i < kDim / 2; ++i) rows->output[i] *= rescale.by[i / 2 % 2];
}

// The fragments of scores, as bf16, are those of a left factor: of 16 positions.
INLINE void WeightsOf(const float (&scores)[kTilePositions / 2], int step, u32 (&weights)[4]) {
  UNROLL for (int i = 0; i < 4; ++i) {
    const float* const pair = scores + 8 * step + 2 * i;
    weights[i] = Bf16PairFromFloats(pair[0], pair[1]);
  }
}

INLINE void SumLanes(Rows* rows) {
  UNROLL for (int h = 0; h < 2; ++h) {
    rows->sum[h] += ShuffleXor(rows->sum[h], 1);
    rows->sum[h] += ShuffleXor(rows->sum[h], 2);
  }
}

// A warp's finished rows to where `at` says: bf16 by way of `stage`, 16 rows of the warp's own, in whole
// pieces.
template <class At> INLINE void StoreRows(const Rows& rows, bf16* stage, bf16*, int count, At at) {
  SyncWarp();  // the warp has read what was there
  UNROLL for (int h = 0; h < 2; ++h) {
    const float scale = Divide(1.0f, rows.sum[h]);
    u32* const to = (u32*)(stage + (Lane() / 4 + 8 * h) * kStride) + Lane() % 4;
    UNROLL for (int j = 0; j < kDim / 8; ++j) {
      to[j * 4] = Bf16PairFromFloats(rows.output[4 * j + 2 * h] * scale, rows.output[4 * j + 2 * h + 1] * scale);
    }
  }
  SyncWarp();
  UNROLL for (int i = 0; i < kPieces / 2; ++i) {  // 16 rows of kPieces, a piece a lane
    const int row = (i * 32 + Lane()) / kPieces, piece = (i * 32 + Lane()) % kPieces;
    if (row < count) *(Words4*)(at(row) + piece * 8) = *(const Words4*)(stage + row * kStride + piece * 8);
  }
}
template <class T, class At> INLINE void StoreRows(const Rows& rows, bf16*, T*, int count, At at) {
  UNROLL for (int h = 0; h < 2; ++h) {
    const int row = Lane() / 4 + 8 * h;
    const float scale = Divide(1.0f, rows.sum[h]);
    if (row >= count) continue;
    UNROLL for (int j = 0; j < kDim / 8; ++j) {
      Put(at(row) + j * 8 + Lane() % 4 * 2, rows.output[4 * j + 2 * h] * scale);
      Put(at(row) + j * 8 + Lane() % 4 * 2 + 1, rows.output[4 * j + 2 * h + 1] * scale);
    }
  }
}
)text";

}  // namespace preheat::codegen::cuda::attention
