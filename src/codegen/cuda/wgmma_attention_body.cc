#include "codegen/cuda/wgmma_attention_body.h"

namespace preheat::codegen::cuda::attention {

const char kWgmmaBody[] = R"text(
// Rows of a tile are pairs of a query and a head of the kv head's group: row r is query r / kGroup, head r % kGroup.
constexpr int kTileRows = kWarpgroups * 64;
constexpr int kTileQueries = kTileRows / kGroup;
constexpr int kMovers = 128;                         // threads that copy
constexpr int kThreads = kWarpgroups * 128 + kMovers;
constexpr int kBoxBytes = kTilePositions * 128;      // 64 dimensions of a tile's positions
constexpr int kSlotBytes = kDim / 64 * kBoxBytes;    // keys or values of a tile
constexpr int kQueriesAt = kSlots * kSlotBytes;
constexpr int kBarriersAt = kQueriesAt + kTileRows * kStride * 2;

struct Job {
  ph_args args;
  int kv_head, first_query, queries;
  int first_visible;  // positions that the first query sees
  int positions;      // that the last one does
};
INLINE Job JobOf(const ph_args& args) {
  Job job;
  job.args = args;
  const int row_blocks = ((int)args.rows + kTileQueries - 1) / kTileQueries;
  // The last rows of all heads see most positions: they begin first.
  job.kv_head = BlockIndex() % (int)kKvHeads;
  job.first_query = (row_blocks - 1 - BlockIndex() / (int)kKvHeads) * kTileQueries;
  job.queries = (int)Min(kTileQueries, args.rows - job.first_query);
  job.first_visible = (int)args.past + job.first_query + 1;
  job.positions = job.first_visible + job.queries - 1;
  return job;
}
CONSTANT int Tiles(int positions) { return (positions + kTilePositions - 1) / kTilePositions; }

// What comes through the ring, in order: the first keys; then the next keys, and values of the tile before; the last
// values.
struct Load {
  int tile;
  bool keys;
};
INLINE Load LoadAt(int n, int all) {
  if (n == 0) return {0, true};
  if (n == all - 1) return {n / 2, false};
  return {n % 2 == 1 ? (n + 1) / 2 : n / 2 - 1, n % 2 == 1};
}

struct Turn {
  int slot;
  u32 parity;
  __device__ void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};
struct Barriers {
  CopyBarrier *full, *empty;
};

// ---- The movers ------------------------------------------------------------------------------------------------
// A tile's positions from `first` on, into a slot as boxes of 64 dimensions would come there.
INLINE void CopyTile(const bf16* rows, int first, int positions, u8* slot) {
  constexpr int kAtOnce = kMovers / kPieces;  // positions: a multiple of 8, so that all of a thread's have one swizzle
  const int thread = ThreadIndex() - kWarpgroups * 128, piece = thread % kPieces, position = thread / kPieces;
  u8* const to = slot + piece / 8 * kBoxBytes + position * 128 + ((piece ^ position) % 8) * 16;
  const bf16* const from = rows + PieceAt(position, piece) * 8;
  UNROLL for (int i = 0; i < kTilePositions; i += kAtOnce) {
    const bool there = first + position + i < positions;
    CopyAsync16OrZero(to + i * 128, from + (there ? (i64)(first + position + i) * kHeadDim : 0), there);
  }
}

INLINE void Move(const Job& job, u8* ring, const Barriers& barriers) {
  const bf16* const keys = Operand<const bf16>(&job.args, 1) + KeyOffset(job.args.capacity, job.kv_head, 0, 0);
  const bf16* const values = Operand<const bf16>(&job.args, 2) + ValueOffset(job.args.capacity, job.kv_head, 0, 0);
  const int all = 2 * Tiles(job.positions);
  Turn turn = {0, 1};
  WaitDependencies();
  NO_UNROLL for (int n = 0; n < all; ++n) {
    WaitBarrier(barriers.empty + turn.slot, turn.parity);
    const Load load = LoadAt(n, all);
    CopyTile(load.keys ? keys : values, load.tile * kTilePositions, job.positions, ring + turn.slot * kSlotBytes);
    ArriveWhenCopied(barriers.full + turn.slot);
    turn.Next();
  }
}

// ---- The multipliers: warpgroups -------------------------------------------------------------------------------
// The warp's 16 rows of queries, as left factors, by way of `stage`.
INLINE void LoadQueries(const Job& job, int first_row, bf16* stage, u32 (&query)[kDim / 16][4]) {
  const bf16* const queries = Operand<const bf16>(&job.args, 0) + job.first_query * kQueryStride +
                              job.kv_head * kGroup * kHeadDim;
  UNROLL for (int i = 0; i < kPieces / 2; ++i) {
    const int row = (i * 32 + Lane()) / kPieces, piece = (i * 32 + Lane()) % kPieces;
    const int r = first_row + row;
    const bool there = r < job.queries * kGroup;
    const bf16* const from = queries + (there ? r / kGroup * kQueryStride + r % kGroup * kHeadDim : 0) + piece * 8;
    CopyAsync16OrZero(stage + row * kStride + piece * 8, from, there);
  }
  CommitCopies();
  WaitCopies<0>();
  SyncWarp();
  UNROLL for (int s = 0; s < kDim / 16; ++s) {
    LoadMatrices(query[s], stage + Lane() % 16 * kStride + s * 16 + Lane() / 16 * 8);
  }
}

INLINE void MultiplyKeys(const u32 (&query)[kDim / 16][4], const u8* keys, float (&scores)[kTilePositions / 2]) {
  FenceMatrices();
  UNROLL for (int s = 0; s < kDim / 16; ++s) {
    MultiplyFragments(scores, query[s], Advance(MatrixAt(keys), s / 4 * kBoxBytes + s % 4 * 32), s > 0);
  }
  CommitMatrices();
}
INLINE void MultiplyValues(const u32 (&weights)[kTilePositions / 16][4], const u8* values, float (&output)[kDim / 2]) {
  FenceMatrices();
  UNROLL for (int s = 0; s < kTilePositions / 16; ++s) {
    MultiplyTransposed(output, weights[s], Advance(TransposedAt(values, kBoxBytes), s * 16 * 128), true);
  }
  CommitMatrices();
}

INLINE void Attend(const Job& job, u8* shared, const Barriers& barriers) {
  const int first_row = WarpIndex() * 16;
  bf16* const stage = (bf16*)(shared + kQueriesAt) + first_row * kStride;
  u32 query[kDim / 16][4];
  WaitDependencies();
  LoadQueries(job, first_row, stage, query);
  Rows rows;
  Begin(&rows);
  const Sight sight = SightOf(job.first_visible, job.queries, first_row);
  // Tiles that the warpgroup's last row sees. The block's first warpgroup may see one less than the block: the last
  // slots, which nobody waits to fill again.
  const int last_row = WarpIndex() / 4 * 64 + 63;
  const int tiles = Tiles(job.first_visible + (int)Min(last_row / kGroup, job.queries - 1));
  Turn turn = {0, 0};
  const auto wait = [&] {
    WaitBarrier(barriers.full + turn.slot, turn.parity);
    FenceCopies();
  };
  const auto hand_back = [&](int slot) {
    if (Lane() == 0) Arrive(barriers.empty + slot);
  };

  float scores[kTilePositions / 2];
  u32 weights[kTilePositions / 16][4];
  const auto settle_scores = [&] {
    UNROLL for (int i = 0; i < kTilePositions / 2; ++i) Settle(scores[i]);
  };
  const auto settle_output = [&] {
    UNROLL for (int i = 0; i < kDim / 2; ++i) Settle(rows.output[i]);
  };
  const auto take_weights = [&] {
    UNROLL for (int s = 0; s < kTilePositions / 16; ++s) WeightsOf(scores, s, weights[s]);
  };
  settle_output();  // defined before any product is under way: else the assembler makes all products wait for each other
  wait();
  MultiplyKeys(query, shared + turn.slot * kSlotBytes, scores);
  WaitMatrices<0>();
  settle_scores();
  hand_back(turn.slot);
  turn.Next();
  WeighScores(scores, 0, sight, &rows);
  take_weights();
  NO_UNROLL for (int tile = 1; tile < tiles; ++tile) {
    // Keys are there where the values behind them are. The wait stands before both products: the assembler would have
    // no registers left for one between them.
    const int key_slot = turn.slot;
    turn.Next();
    wait();
    const int value_slot = turn.slot;
    turn.Next();
    MultiplyKeys(query, shared + key_slot * kSlotBytes, scores);
    MultiplyValues(weights, shared + value_slot * kSlotBytes, rows.output);
    WaitMatrices<1>();
    settle_scores();
    hand_back(key_slot);
    const Rescale rescale = WeighScores(scores, tile * kTilePositions, sight, &rows);
    settle_scores();
    const auto multiplied = [&] {
      WaitMatrices<0>();
      settle_output();
      hand_back(value_slot);
    };
    // The wait stands behind a branch: the assembler would move it before the softmax, which is to run beside products.
    if (Matters(rescale)) {
      multiplied();
      Apply(rescale, &rows);
    } else {
      multiplied();
    }
    take_weights();
  }
  if (tiles < Tiles(job.positions)) turn.Next();  // keys that only the others see
  wait();
  MultiplyValues(weights, shared + turn.slot * kSlotBytes, rows.output);
  WaitMatrices<0>();
  settle_output();

  SumLanes(&rows);
  ResultElement* const result = Operand<ResultElement>(&job.args, 3) + job.first_query * kResultStride +
                                job.kv_head * kGroup * kHeadDim;
  StoreRows(rows, stage, result, job.queries * kGroup - first_row, [&](int row) {
    const int r = first_row + row;
    return result + r / kGroup * kResultStride + r % kGroup * kHeadDim;
  });
}

KERNEL(attention, kThreads, kBlocksPerSm, ph_gpu_args) {
  LaunchDependents();
  const Job job = JobOf(ArgsOf(params));
  u8* const shared = SharedMemory();
  const Barriers barriers = {(CopyBarrier*)(shared + kBarriersAt), (CopyBarrier*)(shared + kBarriersAt) + kSlots};
  if (ThreadIndex() == 0) {
    NO_UNROLL for (int i = 0; i < kSlots; ++i) {
      InitBarrier(barriers.full + i, kMovers);
      InitBarrier(barriers.empty + i, kWarpgroups * 4);
    }
    FenceBarriers();
  }
  SyncBlock();
  if (ThreadIndex() / 128 == kWarpgroups) {
    LowerRegisters<kMoverRegisters>();
    Move(job, shared, barriers);
  } else {
    RaiseRegisters<kMultiplierRegisters>();
    Attend(job, shared, barriers);
  }
}
)text";

}  // namespace preheat::codegen::cuda::attention
