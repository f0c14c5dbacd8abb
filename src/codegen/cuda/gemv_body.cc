#include "codegen/cuda/gemv_body.h"

namespace preheat::codegen::cuda {

const char kGemvRows[] = R"text(
constexpr int kTileRows = kTeam == 2 ? kRows : kRows * kLists;  // of weights that a warp reads for a tile
constexpr i64 kRowBytes = kK * (i64)sizeof(W);

// Where a warp stands among those that share the tiles.
struct Place {
  i64 first_tile;
  i64 step;
  int list;  // of a team's warp: whose columns it takes
};
INLINE Place PlaceOf(int warp) {
  const i64 teams = kWarps / kTeam;
  // Warps of different blocks come first, so that blocks with a tile more are spread over the card.
  return {(i64)(warp / kTeam) * BlockCount() + BlockIndex(), teams * BlockCount(), warp % kTeam};
}

// The row of weights that makes the row-th sum of a warp's tile. A short tile repeats the part's last row.
INLINE const W* RowOf(const ph_args* args, i64 t, int list, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && (kTeam == 2 ? list : row / kRows) == 1;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + Min(column, ColumnsOf(part) - 1) * kK;
}
)text";

// A lane takes every 32nd piece of 16 bytes.
const char kGemvFma[] = R"text(
struct Multiplicands {
  const Element* x;
};
INLINE Multiplicands LoadMultiplicands(const Element* x) { return {x}; }

struct RowSum {
  float sums[4];
};
// 16 bytes of weights times as many elements of x, the row's piece-th.
INLINE void AddPiece(RowSum* sum, const Multiplicands& m, const Words4& weights, int piece) {
  constexpr int kPer = kPer16<W>;
  static_assert(kPer >= kPer16<Element>);
  const Element* const x = m.x + piece * kPer;
  float a[kPer], b[kPer];
  Unpack(weights, (const W*)0, a);
  UNROLL for (int j = 0; j < kPer; j += kPer16<Element>) Unpack(*(const Words4*)(x + j), x, b + j);
  UNROLL for (int j = 0; j < kPer; ++j) sum->sums[j % 4] = FusedMultiplyAdd(a[j], b[j], sum->sums[j % 4]);
}
// In all lanes.
INLINE float Total(const RowSum& sum) {
  return WarpSum((sum.sums[0] + sum.sums[1]) + (sum.sums[2] + sum.sums[3]));
}
)text";

// Tensor cores have nothing to share in a product of one row, but they multiply pairs of bf16 without
// unpacking them: a sixth of the instructions. A lane takes every 32nd piece of 16 bytes, as with fused
// multiply-adds; the pieces of the four lanes 4 n .. 4 n + 3 are row n of the left factor, and those of x the
// column n of the right one, so that the sums wanted stand on the diagonal. Rows 8 to 15 are zero.
const char kGemvMma[] = R"text(
constexpr int kRowPieces = (int)((kRowBytes / 16 + 31) / 32);  // of a lane
constexpr bool kInRegisters = kRowPieces <= 16;

struct Multiplicands {
  const Element* x;
  Words4 pieces[kInRegisters ? kRowPieces : 1];
};
INLINE Multiplicands LoadMultiplicands(const Element* x) {
  Multiplicands m;
  m.x = x;
  if constexpr (kInRegisters) {
    UNROLL for (int i = 0; i < kRowPieces; ++i) m.pieces[i] = *(const Words4*)(x + (i * 32 + Lane()) * 8);
  }
  return m;
}

struct RowSum {
  float sums[4][4];  // apart, since one product waits for the other
};
INLINE void AddPiece(RowSum* sum, const Multiplicands& m, const Words4& weights, int piece) {
  const Words4 x = kInRegisters ? m.pieces[piece / 32] : *(const Words4*)(m.x + piece * 8);
  float* const low = sum->sums[piece / 32 % 2 * 2];
  float* const high = sum->sums[piece / 32 % 2 * 2 + 1];
  const u32 first[4] = {weights.w[0], 0, weights.w[1], 0}, second[4] = {weights.w[2], 0, weights.w[3], 0};
  MultiplyBf16(low, first, x.w);
  MultiplyBf16(high, second, x.w + 2);
}
INLINE float Total(const RowSum& sum) {
  float c[2];
  UNROLL for (int i = 0; i < 2; ++i) {
    c[i] = (sum.sums[0][i] + sum.sums[1][i]) + (sum.sums[2][i] + sum.sums[3][i]);
  }
  const int n = Lane() / 4;
  return WarpSum(Lane() % 4 != n / 2 ? 0.0f : n % 2 == 0 ? c[0] : c[1]);
}
)text";

const char kGemvRing[] = R"text(
constexpr int kPieces = (int)((kRowBytes + kSlotBytes - 1) / kSlotBytes);  // of a row
constexpr int kLastBytes = (int)(kRowBytes - (i64)(kPieces - 1) * kSlotBytes);

// kBytes of weights at w, in shared memory: the row's pieces from first_piece on.
template <int kBytes> INLINE void AddSlot(RowSum* sum, const Multiplicands& m, const W* w, int first_piece) {
  constexpr int kPieces16 = kBytes / 16, kWhole = kPieces16 / 32 * 32;
  UNROLL for (int i = 0; i < kWhole; i += 32) {
    AddPiece(sum, m, *(const Words4*)(w + (i + Lane()) * kPer16<W>), first_piece + i + Lane());
  }
  if constexpr (kWhole < kPieces16) {
    // All lanes multiply; those behind the row's end have zeros.
    const bool there = kWhole + Lane() < kPieces16;
    const Words4 weights = there ? *(const Words4*)(w + (kWhole + Lane()) * kPer16<W>) : Words4{};
    AddPiece(sum, m, weights, first_piece + kWhole + Lane());
  }
}

class Stream {
 public:
  // Fills the warp's slots with its first pieces.
  __device__ Stream(const ph_args* args, const Place& place, int warp)
      : args_(args), place_(place), tile_(place.first_tile) {
    slots_ = SharedMemory() + warp * kSlots * kSlotBytes;
    barriers_ = (CopyBarrier*)(SharedMemory() + kBarriersAt) + warp * kSlots;
    policy_ = EvictFirst();
    if (Lane() == 0) {
      UNROLL for (int s = 0; s < kSlots; ++s) InitBarrier(barriers_ + s, 1);
      FenceBarriers();
    }
    SyncWarp();
    NO_UNROLL for (int s = 0; s < kSlots; ++s) Fill(s);
  }

  // The product of the stream's next row with x, in all lanes.
  __device__ float NextRow(const Multiplicands& m) {
    RowSum sum = {};
    UNROLL for (int piece = 0; piece < kPieces; ++piece) {
      const W* const weights = (const W*)(slots_ + slot_ * kSlotBytes);
      constexpr int kSlotPieces = kSlotBytes / 16;
      WaitBarrier(barriers_ + slot_, turn_);
      if (kLastBytes == kSlotBytes || piece < kPieces - 1) {
        AddSlot<kSlotBytes>(&sum, m, weights, piece * kSlotPieces);
      } else {
        AddSlot<kLastBytes>(&sum, m, weights, piece * kSlotPieces);
      }
      SyncWarp();  // all lanes have read the slot
      Fill(slot_);
      if (++slot_ == kSlots) {
        slot_ = 0;
        turn_ ^= 1;
      }
    }
    return Total(sum);
  }

 private:
  // Asks for the piece that comes next, if there is one.
  __device__ void Fill(int slot) {
    if (tile_ >= kTiles) return;
    if (Lane() == 0) {
      const u32 bytes = piece_ == kPieces - 1 ? kLastBytes : kSlotBytes;
      const W* row = RowOf(args_, tile_, place_.list, row_);
      ExpectBytes(barriers_ + slot, bytes);
      CopyBulk(slots_ + slot * kSlotBytes, (const u8*)row + (i64)piece_ * kSlotBytes, bytes, barriers_ + slot, policy_);
    }
    if (++piece_ < kPieces) return;
    piece_ = 0;
    if (++row_ < kTileRows) return;
    row_ = 0;
    tile_ += place_.step;
  }

  const ph_args* args_;
  Place place_;
  u8* slots_;
  CopyBarrier* barriers_;
  u64 policy_;
  int slot_ = 0;  // to be read next
  u32 turn_ = 0;  // the parity that its barrier then has
  i64 tile_;      // of the piece that is asked for next
  int row_ = 0;
  int piece_ = 0;
};
)text";

const char kGemvDirect[] = R"text(
class Stream {
 public:
  __device__ Stream(const ph_args* args, const Place& place, int) : args_(args), place_(place), tile_(place.first_tile) {}

  // The product of the stream's next row with x, in all lanes.
  __device__ float NextRow(const Multiplicands& m) {
    const Element* const x = m.x;
    const W* w = RowOf(args_, tile_, place_.list, row_);
    if (++row_ == kTileRows) {
      row_ = 0;
      tile_ += place_.step;
    }
    RowSum sum = {};
    constexpr int kPer = kPer16<W>, kDeep = 4;  // pieces of a lane under way at once
    i64 i = Lane() * kPer;
    if constexpr (kRowBytes % 16 == 0) {
      NO_UNROLL for (; i + (kDeep - 1) * 32 * kPer < kK; i += kDeep * 32 * kPer) {
        Words4 pieces[kDeep];
        UNROLL for (int d = 0; d < kDeep; ++d) pieces[d] = LoadStream16(w + i + d * 32 * kPer);
        UNROLL for (int d = 0; d < kDeep; ++d) AddPiece(&sum, m, pieces[d], (int)(i / kPer) + d * 32);
      }
      NO_UNROLL for (; i < kK; i += 32 * kPer) AddPiece(&sum, m, LoadStream16(w + i), (int)(i / kPer));
    } else {
      NO_UNROLL for (i = Lane(); i < kK; i += 32) {
        sum.sums[0] = FusedMultiplyAdd(Get(w + i), Get(x + i), sum.sums[0]);
      }
    }
    return Total(sum);
  }

 private:
  const ph_args* args_;
  Place place_;
  i64 tile_;
  int row_ = 0;
};
)text";

const char kGemvFinish[] = R"text(
KERNEL(matmul, kWarps * 32, kBlocksPerSm, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const int warp_index = WarpIndex();
  const Place place = PlaceOf(warp_index);
  Stream stream(&args, place, warp_index);
  const team::Before before = team::StageBefore(&args);
  WaitDependencies();

  Element* const x = (Element*)(SharedMemory() + kXAt);
  team::StageRow(&args, 0, x, before);
  SyncBlock();
  const Multiplicands multiplicands = LoadMultiplicands(x);

  int turn = 0;
  NO_UNROLL for (i64 t = place.first_tile; t < kTiles; t += place.step) {
    const warp::Tile tile = warp::TileAt(t);
    warp::Early early{};
    if (place.list == 0) early = warp::Before(&args, 0, tile.part, tile.column, tile.count);
    // Lane i: the sum of the i-th column of a list.
    warp::VF y0 = warp::Splat(0), y1 = warp::Splat(0);
    UNROLL for (int row = 0; row < kTileRows; ++row) {
      const float sum = stream.NextRow(multiplicands);
      if (row / kRows == 0 && Lane() == row) y0.v = sum;
      if (row / kRows == 1 && Lane() == row - kRows) y1.v = sum;
    }
    if constexpr (kTeam == 2) {
      // The second warp's sums to the first. Two buffers in turn: a warp is at most one tile ahead.
      float* const exchange = (float*)(SharedMemory() + kExchangeAt) + (warp_index / 2 * 2 + turn) * 32;
      turn ^= 1;
      if (place.list == 1) exchange[Lane()] = y0.v;
      SyncNamed(1 + warp_index / 2, 64);
      if (place.list == 1) continue;
      y1.v = exchange[Lane()];
    }
    warp::Finish(&args, 0, tile.part, tile.column, tile.count, y0, y1, early);
  }
}
)text";

}  // namespace preheat::codegen::cuda
