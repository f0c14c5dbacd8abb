
typedef bf16 CacheElement;
constexpr i64 kKvHeads = 8, kHeadDim = 128;
constexpr bool kSwizzled = true;

constexpr u32 kPieceElements = 16 / sizeof(CacheElement);
// Where the piece-th 16 bytes of a position's row stand in it.
INLINE i64 PieceAt(i64 position, i64 piece) { return kSwizzled ? (u32)piece ^ ((u32)position & 7) : (u32)piece; }
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const u32 piece = (u32)d / kPieceElements, rest = (u32)d % kPieceElements;
  return (kv_head * capacity + position) * kHeadDim + (PieceAt(position, piece) * kPieceElements + rest);
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) { return KeyOffset(capacity, kv_head, position, d); }
typedef bf16 QueryElement;
typedef bf16 ResultElement;
constexpr i64 kQueryStride = 3072, kResultStride = 3072;
constexpr float kScale = 8.838834614e-02f;

// ==== sm_90a ====

// ---- Clusters: neighbouring blocks that run together ---------------------------------------------------------
// Where p, of this block's shared memory, stands in that of the cluster's block `rank`.
INLINE u32 AddressIn(const void* p, int rank) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(SharedAddress(p)), "r"(rank));
  return r;
}
// All threads of the cluster's blocks meet. It orders no memory: what is sent has barriers for that.
INLINE void SyncCluster() {
  asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
// At a barrier of any block of the cluster. The plain form: a release for the cluster would flush the card's memory, and
// what is ordered here are reads by products that have ended.
INLINE void ArriveAt(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Four numbers to a block of the cluster, which its barrier counts as 16 bytes.
INLINE void Send16(u32 to, const float* v, u32 barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]), "r"(barrier)
      : "memory");
}

// ---- Copies of boxes ------------------------------------------------------------------------------------------
// As the driver encodes it; in a kernel's parameters.
struct __align__(64) TensorMap { u64 words[16]; };
INLINE void PrefetchTensorMap(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
// A policy for what is read again and again: it stays in L2.
INLINE u64 EvictLast() {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// The box whose first element is (x, y), or (x, y, z, w).
INLINE void CopyBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
INLINE void CopyBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}
// The same to each of `blocks`, bits by rank in the cluster: to the same place, and counted by the same barrier of each.
INLINE void ShareBox2(void* to, const TensorMap* map, int x, int y, CopyBarrier* barrier, u32 blocks, u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(SharedAddress(barrier)), "h"((u16)blocks), "l"(policy)
      : "memory");
}
INLINE void ShareBox4(void* to, const TensorMap* map, int x, int y, int z, int w, CopyBarrier* barrier, u32 blocks,
                      u64 policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7, %8;" ::"r"(SharedAddress(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(SharedAddress(barrier)), "h"((u16)blocks), "l"(policy)
      : "memory");
}

// ---- Registers: whole warpgroups give some back, or take more --------------------------------------------------
template <int N> INLINE void LowerRegisters() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> INLINE void RaiseRegisters() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

// ---- Products of a warpgroup: 64 rows, 16 of k -----------------------------------------------------------------
// A matrix in shared memory.
INLINE u64 MatrixAt(const void* p) {
  // Swizzle of 128 bytes; groups of 8 rows are 1024 bytes apart.
  return 1ull << 62 | 64ull << 32 | 1ull << 16 | SharedAddress(p) >> 4;
}
// A matrix that lies with its columns side by side, 64 of them a box: a row is a k. From box to box so many bytes.
INLINE u64 TransposedAt(const void* p, int box_bytes) {
  return 1ull << 62 | 64ull << 32 | (u64)(box_bytes / 16) << 16 | SharedAddress(p) >> 4;
}
// The same, `bytes` further on, a multiple of 16.
INLINE u64 Advance(u64 matrix, int bytes) { return matrix + (u64)(bytes / 16); }
// Counts this thread at the barrier when all that it has asked CopyAsync16 for is there; it does not wait itself.
INLINE void ArriveWhenCopied(CopyBarrier* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}
// What CopyAsync16 brought, by whichever thread, and this one has waited for: its products may read it after this. In
// the thread that copies it would wait for all copies under way.
INLINE void FenceCopies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
INLINE void FenceMatrices() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
// Closes a group of products; WaitMatrices<N> waits until at most N groups are open.
INLINE void CommitMatrices() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> INLINE void WaitMatrices() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
// What was computed before is not read sooner than here.
INLINE void Settle(float& x) { asm volatile("" : "+f"(x)::"memory"); }
// The same, a in registers, as MultiplyBf16 has it: they keep their values until it is waited for.
INLINE void MultiplyFragments(float (&sums)[32], const u32 (&a)[4], u64 b, bool add) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %32, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%34, %35, %36, %37}, %33, p, 1, 1, 0; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]), "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]), "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]), "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]), "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]) : "r"((int)add), "l"(b), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]));
}
// The same, b a TransposedAt.
INLINE void MultiplyTransposed(float (&sums)[64], const u32 (&a)[4], u64 b, bool add) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %64, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, {%66, %67, %68, %69}, %65, p, 1, 1, 1; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]), "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]), "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]), "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]), "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]), "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]), "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]), "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]), "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]), "+f"(sums[63]) : "r"((int)add), "l"(b), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]));
}
// ==== sm_90a ends ====
constexpr int kTilePositions = 64, kSlots = 8, kGroup = 3;
constexpr bool kSomeAlone = true;
// A ring's next slot, and the parity that its barrier has when it is full.
struct Turn {
  int slot;
  u32 parity;
  template <int kSlots> __device__ void Next() {
    if (++slot == kSlots) {
      slot = 0;
      parity ^= 1;
    }
  }
};

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
