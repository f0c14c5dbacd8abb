// The scales of rows that were handed on: the texts.
#include "codegen/cuda/wgmma_body.h"

namespace preheat::codegen::cuda {

const char kWgmmaNoScales[] = R"text(
struct Scales {
  __device__ Scales(u8*, const Barriers&) {}
  __device__ void Begin(int) {}
  __device__ void End() {}
  template <class Vector> __device__ Vector Scaled(const Vector& sums, int, int) const { return sums; }
};
INLINE void InitScales(const Barriers&) {}
INLINE void MoveScales(const Job&, u8*, const Barriers&) {}
)text";

const char kWgmmaScales[] = R"text(
// x was handed on as rows times the norm's weights: what they are multiplied to is still to be scaled, row by row. Two
// warps of the movers find a tile's scales while its products are made.
constexpr int kFinders = 64;

struct Scales {
  const float* slots;
  const Barriers& barriers;
  Turn turn;
  const float* rows;  // of the warp, in the tile's slot
  __device__ Scales(u8* shared, const Barriers& all) : slots((const float*)(shared + kScalesAt)), barriers(all), turn{0, 0} {}
  // A tile's, for a warp whose rows begin with this one of the tile.
  __device__ void Begin(int first_row) {
    WaitBarrier(barriers.full_scales + turn.slot, turn.parity);
    rows = slots + turn.slot * kTileRows + first_row;
  }
  __device__ void End() {
    SyncWarp();
    if (Lane() == 0) Arrive(barriers.empty_scales + turn.slot);
    turn.Next<2>();
  }
  // Sums of a row of the warp's m-th block.
  template <class Vector> __device__ Vector Scaled(const Vector& sums, int m, int row) const {
    const float scale = rows[m * 64 + row];
    Vector scaled;
    UNROLL for (int i = 0; i < 4; ++i) scaled.v[i] = Multiply(sums.v[i], scale);
    return scaled;
  }
};
INLINE void InitScales(const Barriers& barriers) {
  UNROLL for (int i = 0; i < 2; ++i) {
    InitBarrier(barriers.full_scales + i, kFinders);
    InitBarrier(barriers.empty_scales + i, kWarpgroups * 4);
  }
}
// Four rows' sums of squares, of one tile of columns.
INLINE void AddFour(const Words4& four, float* sums) {
  UNROLL for (int i = 0; i < 4; ++i) sums[i] += FloatOf(four.w[i]);
}
INLINE void MoveScales(const Job& job, u8* shared, const Barriers& barriers) {
  constexpr int kFours = kTileRows / 4;
  constexpr int kSharers = kFinders / kFours > 0 ? kFinders / kFours : 1;  // finders of the same rows: neighbours
  constexpr int kMine = (kHandedParts + kSharers - 1) / kSharers, kMost = kMoverRegisters == 40 ? 2 : 6;  // registers
  constexpr int kAtOnce = kMine < kMost ? kMine : kMost;
  float* const slots = (float*)(shared + kScalesAt);
  const int finder = ThreadIndex() % kFinders, first = finder % kSharers;
  const i64 stride = HandedStride(job.rows);
  Turn turn = {0, 1};
  WaitDependencies();
  for (int tile = job.first_tile; tile < job.tiles; tile = job.Next(tile)) {
    WaitBarrier(barriers.empty_scales + turn.slot, turn.parity);
    NO_UNROLL for (int four = finder / kSharers; four < kFours; four += kFinders / kSharers) {
      const int row = job.FirstRow(tile) + four * 4;
      const f32* const squares = Operand<const f32>(&job.args, kSquares) + row;
      float sums[4] = {};
      NO_UNROLL for (int i = 0; i < kMine; i += kAtOnce) {
        Words4 some[kAtOnce];
        UNROLL for (int j = 0; j < kAtOnce; ++j) {
          const int part = first + (i + j) * kSharers;
          const bool there = row < job.rows && i + j < kMine && part < kHandedParts;
          some[j] = there ? LoadDependent16(squares + part * stride) : Words4{};
        }
        UNROLL for (int j = 0; j < kAtOnce; ++j) AddFour(some[j], sums);
      }
      UNROLL for (int i = 0; i < 4; ++i) {
        UNROLL for (int mask = 1; mask < kSharers; mask *= 2) sums[i] += ShuffleXor(sums[i], mask);
        if (first == 0) slots[turn.slot * kTileRows + four * 4 + i] = Rsqrt(sums[i] / (float)kK + kEps);
      }
    }
    Arrive(barriers.full_scales + turn.slot);
    turn.Next<2>();
  }
}
)text";

}  // namespace preheat::codegen::cuda
