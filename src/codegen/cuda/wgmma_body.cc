#include "codegen/cuda/wgmma_body.h"

namespace preheat::codegen::cuda {

const char kWgmmaOpening[] = R"text(
// The weights of a region: a tensor a part.
struct Parameters {
  ph_gpu_args args;
  TensorMap x;
  TensorMap weights[kParts];
};

constexpr int kStep = 64;  // of k: a row of a box is 128 bytes
constexpr int kRowBytes = 2 * kStep;
constexpr int kAllSteps = (int)((kK + kStep - 1) / kStep);
constexpr int kCluster = kShareX * kSplit * kShareW;
constexpr int kThreads = kWarpgroups * 128 + kMoverWarps * 32;
constexpr int kRowBlocks = kTileRows / (kWarpgroups * 64);  // of 64 rows, of a warpgroup
constexpr int kColumnBlocks = kTileColumns / 8;
constexpr int kXBytes = kTileRows * kRowBytes, kWBytes = kTileColumns * kRowBytes;  // of a slot
constexpr int kBoxColumns = kTileColumns / kBoxes;
constexpr int kItems = kColumnBlocks / kItemBlocks;

// A thread's sums: 4 of each block of 8 columns, two of its first row and two of its second, 8 rows below.
typedef float Sums[kRowBlocks][kTileColumns / 2];

// What a block works on. Blocks of a cluster that differ in x_rank alone need the same rows of x, those that differ in
// w_rank alone the same weights; those that differ in split alone make the same sums, each through a range of k.
struct Job {
  ph_args args;
  int rows;
  int x_rank, split, w_rank;
  int first_step, steps;
  int row_groups;  // of kShareW tiles, one below the other
  int tiles;       // of a cluster
  int first_tile, stride;

  __device__ int ColumnTile(int tile) const { return tile / row_groups * kShareX + x_rank; }
  __device__ int FirstRow(int tile) const { return (tile % row_groups * kShareW + w_rank) * kTileRows; }
  __device__ int Next(int tile) const { return kPersistent ? tile + stride : tiles; }
  // The rank of a block that differs from this one in one place.
  __device__ int RankOfX(int x) const { return (w_rank * kSplit + split) * kShareX + x; }
  __device__ int RankOfSplit(int s) const { return (w_rank * kSplit + s) * kShareX + x_rank; }
  __device__ int RankOfW(int w) const { return (w * kSplit + split) * kShareX + x_rank; }
};
INLINE Job JobOf(const ph_args& args) {
  Job job;
  job.args = args;
  job.rows = (int)args.rows;
  const int rank = BlockIndex() % kCluster;
  job.x_rank = rank % kShareX;
  job.split = rank / kShareX % kSplit;
  job.w_rank = rank / (kShareX * kSplit);
  job.first_step = kAllSteps * job.split / kSplit;
  job.steps = kAllSteps * (job.split + 1) / kSplit - job.first_step;
  job.row_groups = (job.rows + kTileRows * kShareW - 1) / (kTileRows * kShareW);
  job.tiles = job.row_groups * kColumnGroups;
  job.first_tile = BlockIndex() / kCluster;
  job.stride = BlockCount() / kCluster;
  return job;
}

// A part of a step's weights that is copied at once: where it begins.
struct Box {
  const TensorMap* map;
  int row, head;
};
// Four columns, of the first list where there are two, and whether there are such.
struct Columns {
  int part;
  int column;
  bool there;
};
// A warp's rows of a tile: 16 from `row` on, 16 more 64 rows further down, and so on.
struct Unit {
  int row;
  int column_tile;
  u8* stage;  // the warp's own memory
};

// Barriers of the two rings; of what other blocks send; of the first rows of x, once they were asked for; of two slots of
// rows' scales, where there are such.
struct Barriers {
  CopyBarrier *full_w, *empty_w, *full_x, *empty_x, *exchanged, *started, *full_scales, *empty_scales;
};
INLINE Barriers BarriersOf(u8* shared) {
  CopyBarrier* const first = (CopyBarrier*)(shared + kBarriersAt);
  CopyBarrier* const of_x = first + 2 * kWSlots;
  CopyBarrier* const rest = of_x + 2 * kXSlots;
  return {first, first + kWSlots, of_x, of_x + kXSlots, rest, rest + 1, rest + 2, rest + 4};
}
)text";

// Boxes: one thread asks for all of them, so that where they lie is worked out once a tile.
const char kWgmmaPlainColumns[] = R"text(
constexpr bool kHeads = false;
INLINE Box BoxAt(const Parameters& params, int column_tile, int box) {
  return {&params.weights[0], column_tile * kTileColumns + box * kBoxColumns, 0};
}
// Block b of 8 columns of an item: columns that are finished together.
CONSTANT int BlockOf(int item, int) { return item; }

INLINE Columns ColumnsAt(int column_tile, int item, int quad) {
  const int column = column_tile * kTileColumns + item * 8 + quad * 4;
  return {0, column, !kRagged || column < kTotal};
}
)text";

const char kWgmmaListColumns[] = R"text(
constexpr bool kHeads = false;
INLINE Box BoxAt(const Parameters& params, int column_tile, int box) {
  constexpr int kOfPart = kBoxes / 2;
  return {&params.weights[box / kOfPart], column_tile * (kTileColumns / 2) + box % kOfPart * kBoxColumns, 0};
}
// Block b of 8 columns of an item: two of the first list, two of the second.
CONSTANT int BlockOf(int item, int b) { return 2 * item + (b < 2 ? b : kColumnBlocks / 2 + b - 2); }
)text";

const char kWgmmaHeadColumns[] = R"text(
constexpr bool kHeads = true;
constexpr int kHalf = kHeadColumns / 2;
constexpr int kBoxesPerHead = kHalf / kPairs;
CONSTANT int HeadsOf(int part) { return (int)(ColumnsOf(part) / kHeadColumns); }
struct Head {
  int part;
  int head;
};
// One behind the last is a head of values that is not there: it comes as zeros.
INLINE Head HeadAt(int head) {
  const int part = (head >= HeadsOf(0)) + (head >= HeadsOf(0) + HeadsOf(1));
  return {part, head - (part > 0 ? HeadsOf(0) : 0) - (part > 1 ? HeadsOf(1) : 0)};
}

// kPairs columns of a head's first half and those that go with them.
INLINE Box BoxAt(const Parameters& params, int column_tile, int box) {
  const int index = column_tile * kBoxes + box;
  const Head head = HeadAt(index / kBoxesPerHead);
  return {&params.weights[head.part], index % kBoxesPerHead * kPairs, head.head};
}
// Block b of 8 columns of an item: two of a first half, two of the second.
CONSTANT int BlockOf(int item, int b) {
  return item / (kPairs / 16) * (kPairs / 4) + item % (kPairs / 16) * 2 + (b < 2 ? b : kPairs / 8 + b - 2);
}

INLINE Columns ColumnsAt(int column_tile, int item, int quad) {
  constexpr int kItemsPerBox = kPairs / 16;
  const int index = column_tile * kBoxes + item / kItemsPerBox;
  const int head = index / kBoxesPerHead;
  const Head place = HeadAt(head);
  const int d = index % kBoxesPerHead * kPairs + item % kItemsPerBox * 16 + quad * 4;
  return {place.part, place.head * kHeadColumns + d, !kRagged || head < HeadsOf(0) + HeadsOf(1) + HeadsOf(2)};
}
)text";

const char kWgmmaKernel[] = R"text(
// ---- The movers: one thread for the weights, one for x --------------------------------------------------------
INLINE void FindBoxes(const Parameters& params, int column_tile, Box* boxes) {
  UNROLL for (int box = 0; box < kBoxes; ++box) boxes[box] = BoxAt(params, column_tile, box);
}
// Asks for a step's weights, those of them that are this block's to ask for.
INLINE void AskForWeights(const Job& job, const Box* boxes, int step, u8* slot, CopyBarrier* full, u32 blocks, u64 policy) {
  ExpectBytes(full, kWBytes);
  const int k = (job.first_step + step) * kStep;
  UNROLL for (int box = 0; box < kBoxes; ++box) {
    if (kShareW > 1 && box % kShareW != job.w_rank) continue;
    const Box& from = boxes[box];
    u8* const to = slot + box * kBoxColumns * kRowBytes;
    if constexpr (kHeads && kShareW == 1) CopyBox4(to, from.map, k, from.row, 0, from.head, full, policy);
    if constexpr (kHeads && kShareW > 1) ShareBox4(to, from.map, k, from.row, 0, from.head, full, blocks, policy);
    if constexpr (!kHeads && kShareW == 1) CopyBox2(to, from.map, k, from.row, full, policy);
    if constexpr (!kHeads && kShareW > 1) ShareBox2(to, from.map, k, from.row, full, blocks, policy);
  }
}

// The first `begun` steps were asked for already.
INLINE void MoveWeights(const Parameters& params, const Job& job, u8* ring, const Barriers& barriers, int begun) {
  const u64 policy = EvictFirst();
  u32 blocks = 0;
  UNROLL for (int w = 0; w < kShareW; ++w) blocks |= 1u << job.RankOfW(w);
  Turn turn = {begun % kWSlots, begun == kWSlots ? 0u : 1u};
  // Only kWHead steps are asked for before the first of x: the copy engine works in order, and the memory would be full
  // of weights just when the last kernel's stores and the first of x, which all wait for, must get through.
  bool held = kWHead < kWSlots;
  int asked = begun, step = begun;
  for (int tile = job.first_tile; tile < job.tiles; tile = job.Next(tile), step = 0) {
    Box boxes[kBoxes];
    FindBoxes(params, job.ColumnTile(tile), boxes);
    NO_UNROLL for (; step < job.steps; ++step) {
      if (held && asked == kWHead) {
        WaitBarrier(barriers.started, 0);
        held = false;
      }
      ++asked;
      WaitBarrier(barriers.empty_w + turn.slot, turn.parity);
      AskForWeights(job, boxes, step, ring + turn.slot * kWBytes, barriers.full_w + turn.slot, blocks, policy);
      turn.Next<kWSlots>();
    }
  }
}

INLINE void MoveX(const Parameters& params, const Job& job, u8* ring, const Barriers& barriers) {
  const u64 policy = EvictLast();
  u32 blocks = 0;
  UNROLL for (int x = 0; x < kShareX; ++x) blocks |= 1u << job.RankOfX(x);
  constexpr int kSliceRows = kTileRows / kShareX;  // that this block asks for
  Turn turn = {0, 1};
  int before_started = job.steps < kXSlots ? job.steps : kXSlots;
  WaitDependencies();
  for (int tile = job.first_tile; tile < job.tiles; tile = job.Next(tile)) {
    const int row = job.FirstRow(tile) + job.x_rank * kSliceRows;
    for (int step = 0; step < job.steps; ++step) {
      WaitBarrier(barriers.empty_x + turn.slot, turn.parity);
      CopyBarrier* const full = barriers.full_x + turn.slot;
      u8* const to = ring + turn.slot * kXBytes + job.x_rank * kSliceRows * kRowBytes;
      ExpectBytes(full, kXBytes);
      if constexpr (kShareX == 1) CopyBox2(to, &params.x, (job.first_step + step) * kStep, row, full, policy);
      if constexpr (kShareX > 1) ShareBox2(to, &params.x, (job.first_step + step) * kStep, row, full, blocks, policy);
      if (--before_started == 0) Arrive(barriers.started);
      turn.Next<kXSlots>();
    }
  }
}

// ---- The multipliers: warpgroups -------------------------------------------------------------------------------
INLINE void Multiply(const Job& job, u8* shared, const Barriers& barriers) {
  WaitDependencies();  // before a residual is read and before anything is written
  const int warp_index = WarpIndex(), lane = Lane(), group = warp_index / 4;
  // Lane i of a warp tells the i-th block of those that share a slot's contents that it is free.
  const u32 free_w = AddressIn(barriers.empty_w, job.RankOfW(lane % kShareW));
  const u32 free_x = AddressIn(barriers.empty_x, job.RankOfX(lane % kShareX));
  Sums sums;
  Turn w = {0, 0}, x = {0, 0};
  Scales scales(shared, barriers);
  // A slot is handed back only if it will be filled again: so no block tells another that may have ended, and all end
  // without meeting. None ends before its own steps, also those that others ask for, have come.
  int left = job.steps;
  if constexpr (kPersistent) left *= (job.tiles - job.first_tile + job.stride - 1) / job.stride;
  for (int tile = job.first_tile; tile < job.tiles; tile = job.Next(tile)) {
    int held_w = 0, held_x = 0;
    const auto hand_back = [&] {
      if (lane < kShareW && left > kWSlots) ArriveAt(free_w + 8 * held_w);
      if (lane < kShareX && left > kXSlots) ArriveAt(free_x + 8 * held_x);
      --left;
    };
    NO_UNROLL for (int step = 0; step < job.steps; ++step) {
      WaitBarrier(barriers.full_w + w.slot, w.parity);
      WaitBarrier(barriers.full_x + x.slot, x.parity);
      const u64 a = MatrixAt(shared + kXRingAt + x.slot * kXBytes + group * kRowBlocks * 64 * kRowBytes);
      const u64 b = MatrixAt(shared + w.slot * kWBytes);
      FenceMatrices();
      UNROLL for (int part = 0; part < kStep / 16; ++part) {
        UNROLL for (int m = 0; m < kRowBlocks; ++m) {
          MultiplyMatrices(sums[m], Advance(a, m * 64 * kRowBytes + part * 32), Advance(b, part * 32), (step | part) != 0);
        }
      }
      CommitMatrices();
      WaitMatrices<1>();  // the step before this one has read its slots
      if (step > 0) hand_back();
      held_w = w.slot;
      held_x = x.slot;
      w.Next<kWSlots>();
      x.Next<kXSlots>();
    }
    const int first_row = group * kRowBlocks * 64 + warp_index % 4 * 16;  // of the warp, in the tile
    const auto multiplied = [&] {
      WaitMatrices<0>();
      UNROLL for (int m = 0; m < kRowBlocks; ++m) {
        UNROLL for (int i = 0; i < kTileColumns / 2; ++i) Settle(sums[m][i]);
      }
      hand_back();
      scales.Begin(first_row);
    };
    const Unit unit = {job.FirstRow(tile) + first_row, job.ColumnTile(tile),
                       shared + kStageAt + warp_index * kRowBlocks * 16 * kPitch};
    if constexpr (kSplit == 1) {
      FinishTile(job, sums, unit, scales, [&] {
        multiplied();
        if constexpr (!kPersistent) SyncNamed(1, kWarpgroups * 128);  // what is staged takes the rings' place
      });
    } else {
      multiplied();
      SyncCluster();  // all are done with their rings, which take what is sent
      const int first_unit = group * kRowBlocks * 4 + warp_index % 4;  // of the warp, counted through the block
      SendSlices<0>(job, sums, shared, barriers, first_unit);
      FinishSlice(job, sums, unit, scales, [&] {
        WaitBarrier(barriers.exchanged, 0);
        AddSent<0>(job, sums, shared, first_unit);
      });
    }
    scales.End();
  }
}

KERNEL(matmul, kThreads, 1, Parameters) {
  // The next kernel may start as soon as all blocks of this one run: it fills its rings with weights and then waits.
  LaunchDependents();
  const Job job = JobOf(ArgsOf(params.args));
  u8* const shared = SharedMemory();
  const Barriers barriers = BarriersOf(shared);
  // Weights that no other block gets are asked for before anything else is set up.
  constexpr int kEarly = kShareW == 1 ? kWHead : 0;
  int begun = 0;
  if (ThreadIndex() == kWarpgroups * 128) {
    NO_UNROLL for (int i = 0; i < kWSlots; ++i) {
      InitBarrier(barriers.full_w + i, 1);
      InitBarrier(barriers.empty_w + i, kWarpgroups * 4 * kShareW);
    }
    FenceBarriers();
    if constexpr (kEarly > 0) {
      const u64 policy = EvictFirst();
      Box boxes[kBoxes];
      FindBoxes(params, job.ColumnTile(job.first_tile), boxes);
      NO_UNROLL for (; begun < kEarly && begun < job.steps; ++begun) {
        AskForWeights(job, boxes, begun, shared + begun * kWBytes, barriers.full_w + begun, 0, policy);
      }
    }
  }
  if (ThreadIndex() == kWarpgroups * 128 + 32) {
    PrefetchTensorMap(&params.x);
    NO_UNROLL for (int i = 0; i < kXSlots; ++i) {
      InitBarrier(barriers.full_x + i, 1);
      InitBarrier(barriers.empty_x + i, kWarpgroups * 4 * kShareX);
    }
    InitBarrier(barriers.exchanged, 1);
    InitBarrier(barriers.started, 1);
    InitScales(barriers);
    FenceBarriers();
    if constexpr (kSplit > 1) ExpectBytes(barriers.exchanged, BytesSentTo(job.split));
  }
  SyncBlock();
  if constexpr (kCluster > 1) SyncCluster();  // all barriers stand before anything is shared

  // The movers' branch first: the assembler does not see else that the multipliers are whole warps, and makes products
  // wait for each other.
  if (ThreadIndex() / 128 == kWarpgroups) {
    if constexpr (kMoverRegisters > 0) LowerRegisters<kMoverRegisters>();
    const int mover = WarpIndex() - kWarpgroups * 4;
    if (mover == 0) {
      if (Lane() == 0) MoveWeights(params, job, shared, barriers, begun);
      SyncWarp();
    } else if (mover == 1) {
      if (Lane() == 0) MoveX(params, job, shared + kXRingAt, barriers);
      SyncWarp();
    } else {
      MoveScales(job, shared, barriers);
    }
    if constexpr (kSplit > 1) SyncCluster();
  } else {
    if constexpr (kMultiplierRegisters > 0) RaiseRegisters<kMultiplierRegisters>();
    Multiply(job, shared, barriers);
  }
}
)text";

}  // namespace preheat::codegen::cuda
