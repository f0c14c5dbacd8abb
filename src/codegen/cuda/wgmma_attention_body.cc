#include "codegen/cuda/wgmma_attention_body.h"

namespace preheat::codegen::cuda::attention {

const char kWgmmaBody[] = R"text(
// Each of the block's two warpgroups takes a unit: neighbouring queries of a kv head. Its rows are pairs of a query and a
// head of the kv head's group: row r is query r / kGroup, head r % kGroup.
constexpr int kUnitQueries = 64 / kGroup;
constexpr int kMultipliers = 256, kMovers = 128;     // threads
constexpr int kBoxBytes = kTilePositions * 128;      // 64 dimensions of a tile's positions
constexpr int kSlotBytes = kDim / 64 * kBoxBytes;    // keys or values of a tile
constexpr int kQueriesAt = kSlots * kSlotBytes;
constexpr int kBarriersAt = kQueriesAt + kMultipliers / 2 * kStride * 2;

CONSTANT int Tiles(int positions) { return (positions + kTilePositions - 1) / kTilePositions; }

struct Unit {
  int first_query, queries;
  int first_visible;  // positions that the first query sees
  int tiles;          // that the last one does
};
INLINE Unit UnitAt(const ph_args& args, int index) {
  const int first = index * kUnitQueries, queries = (int)Min(kUnitQueries, args.rows - first);
  const int visible = (int)args.past + first + 1;
  return {first, queries, visible, Tiles(visible + queries - 1)};
}

// The units of a block, by index; the second is less than 0 where the first is alone.
struct Job {
  ph_args args;
  int kv_head;
  int first, second;
  int positions;  // that the first unit's last query sees: no unit sees more
  int tiles;
};
INLINE Job JobOf(const ph_args& args) {
  Job job;
  job.args = args;
  job.kv_head = BlockIndex() % (int)kKvHeads;
  const int units = ((int)args.rows + kUnitQueries - 1) / kUnitQueries;
  // Those that see most positions begin first.
  const int block = BlockIndex() / (int)kKvHeads;
  if constexpr (kSomeAlone) {
    // One with the most is alone, or goes with one of the fewest.
    const int alone = 2 * (BlockCount() / (int)kKvHeads) - units;
    job.first = units - 1 - block;
    job.second = block - alone;
  } else {
    job.first = units - 1 - 2 * block;
    job.second = job.first - 1;
  }
  const Unit first = UnitAt(args, job.first);
  job.positions = first.first_visible + first.queries - 1;
  job.tiles = first.tiles;
  return job;
}

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

struct Barriers {
  CopyBarrier *full, *empty;
};

// ---- The movers ------------------------------------------------------------------------------------------------
// A tile's positions from `first` on, into a slot as boxes of 64 dimensions would come there.
INLINE void CopyTile(const bf16* rows, int first, int positions, u8* slot) {
  constexpr int kAtOnce = kMovers / kPieces;  // positions: a multiple of 8, so that all of a thread's have one swizzle
  const int thread = ThreadIndex() - kMultipliers, piece = thread % kPieces, position = thread / kPieces;
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
  const int all = 2 * job.tiles;
  Turn turn = {0, 1};
  WaitDependencies();
  NO_UNROLL for (int n = 0; n < all; ++n) {
    WaitBarrier(barriers.empty + turn.slot, turn.parity);
    const Load load = LoadAt(n, all);
    CopyTile(load.keys ? keys : values, load.tile * kTilePositions, job.positions, ring + turn.slot * kSlotBytes);
    ArriveWhenCopied(barriers.full + turn.slot);
    turn.Next<kSlots>();
  }
}

// ---- The multipliers: warpgroups -------------------------------------------------------------------------------
// The warp's 16 rows of queries, as left factors, by way of `stage`.
INLINE void LoadQueries(const Job& job, const Unit& unit, int first_row, bf16* stage, u32 (&query)[kDim / 16][4]) {
  const bf16* const queries = Operand<const bf16>(&job.args, 0) + unit.first_query * kQueryStride +
                              job.kv_head * kGroup * kHeadDim;
  UNROLL for (int i = 0; i < kPieces / 2; ++i) {
    const int row = (i * 32 + Lane()) / kPieces, piece = (i * 32 + Lane()) % kPieces;
    const int r = first_row + row;
    const bool there = r < unit.queries * kGroup;
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

// The keys of tiles from `tile` on, and the values before them, which only the first unit sees.
INLINE void Drain(int tile, const Job& job, Turn turn, const Barriers& barriers) {
  if (Lane() != 0) return;
  NO_UNROLL for (int left = 2 * (job.tiles - tile) - (tile == 0 ? 1 : 0); left > 0; --left) {
    WaitBarrier(barriers.full + turn.slot, turn.parity);
    Arrive(barriers.empty + turn.slot);
    turn.Next<kSlots>();
  }
}

INLINE void Attend(const Job& job, u8* shared, const Barriers& barriers) {
  const int index = WarpIndex() < 4 ? job.first : job.second, first_row = WarpIndex() % 4 * 16;
  if (index < 0) return Drain(0, job, {0, 0}, barriers);
  const Unit unit = UnitAt(job.args, index);
  bf16* const stage = (bf16*)(shared + kQueriesAt) + WarpIndex() * 16 * kStride;
  u32 query[kDim / 16][4];
  WaitDependencies();
  LoadQueries(job, unit, first_row, stage, query);
  Rows rows;
  Begin(&rows);
  const Sight sight = SightOf(unit.first_visible, unit.queries, first_row);
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
  turn.Next<kSlots>();
  WeighScores(scores, 0, sight, &rows);
  take_weights();
  NO_UNROLL for (int tile = 1; tile < unit.tiles; ++tile) {
    // Keys are there where the values behind them are. The wait stands before both products: the assembler would have
    // no registers left for one between them.
    const int key_slot = turn.slot;
    turn.Next<kSlots>();
    wait();
    const int value_slot = turn.slot;
    turn.Next<kSlots>();
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
    // The wait stands behind a branch that all warps take alike: the assembler would move it before the softmax, which is
    // to run beside products.
    if (tile % 2 == 0) {
      multiplied();
    } else {
      multiplied();
    }
    if (Matters(rescale)) Apply(rescale, &rows);
    take_weights();
  }
  const bool fewer = unit.tiles < job.tiles;
  const int unseen = turn.slot;  // keys that only the first unit sees: they are there where the values behind them are
  if (fewer) turn.Next<kSlots>();
  wait();
  MultiplyValues(weights, shared + turn.slot * kSlotBytes, rows.output);
  WaitMatrices<0>();
  settle_output();
  // Not sooner: all lanes have passed their waits.
  if (kSomeAlone && fewer) {
    hand_back(unseen);
    hand_back(turn.slot);
  }

  SumLanes(&rows);
  ResultElement* const result = Operand<ResultElement>(&job.args, 3) + unit.first_query * kResultStride +
                                job.kv_head * kGroup * kHeadDim;
  StoreRows(rows, stage, result, unit.queries * kGroup - first_row, [&](int row) {
    const int r = first_row + row;
    return result + r / kGroup * kResultStride + r % kGroup * kHeadDim;
  });
  if constexpr (kSomeAlone) {
    turn.Next<kSlots>();
    if (fewer) Drain(unit.tiles + 1, job, turn, barriers);
  }
}

KERNEL(attention, kMultipliers + kMovers, 1, ph_gpu_args) {
  LaunchDependents();
  const Job job = JobOf(ArgsOf(params));
  u8* const shared = SharedMemory();
  const Barriers barriers = {(CopyBarrier*)(shared + kBarriersAt), (CopyBarrier*)(shared + kBarriersAt) + kSlots};
  if (ThreadIndex() == 0) {
    NO_UNROLL for (int i = 0; i < kSlots; ++i) {
      InitBarrier(barriers.full + i, kMovers);
      InitBarrier(barriers.empty + i, kMultipliers / 32);
    }
    FenceBarriers();
  }
  SyncBlock();
  if (ThreadIndex() / 128 == kMultipliers / 128) {
    LowerRegisters<40>();
    Move(job, shared, barriers);
  } else {
    RaiseRegisters<232>();
    Attend(job, shared, barriers);
  }
}
)text";

}  // namespace preheat::codegen::cuda::attention
