
typedef f32 X;
typedef bf16 NormW;
constexpr i64 kK = 3072, kStaged = 3072;
constexpr i64 kXStride = 3072;
typedef bf16 W;
typedef bf16 Out;
constexpr i64 kOutStride = 8192;
constexpr i64 kAStride = 3072;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kStagedRows = 2;

namespace team {
constexpr int kThreads = 128, LANES = kThreads * 4;
INLINE float* Scratch() { return (float*)(SharedMemory() + 0); }
INLINE int First() { return ThreadIndex() * 4; }
INLINE void SyncTeam() { SyncBlock(); }

struct VF {
  float v[4];
};
#define FOUR_EACH(expression) \
  VF r; \
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = expression; \
  return r
INLINE VF Splat(float x) { FOUR_EACH(x); }
INLINE VF operator+(VF a, VF b) { FOUR_EACH(a.v[i] + b.v[i]); }
INLINE VF operator-(VF a, VF b) { FOUR_EACH(a.v[i] - b.v[i]); }
INLINE VF operator*(VF a, VF b) { FOUR_EACH(Multiply(a.v[i], b.v[i])); }
INLINE VF Fma(VF a, VF b, VF c) { FOUR_EACH(FusedMultiplyAdd(a.v[i], b.v[i], c.v[i])); }
#undef FOUR_EACH

// Rows begin at multiples of 64 bytes, and so do weights: a thread's elements may be read at once.
INLINE VF Load(const f32* p) {
  const Words4 w = *(const Words4*)(p + First());
  VF r;
  Unpack(w, p, r.v);
  return r;
}
INLINE VF OfHalves(Words2 w, const bf16*) {
  return {{FloatOf(w.w[0] << 16), FloatOf(w.w[0] & 0xffff0000u), FloatOf(w.w[1] << 16), FloatOf(w.w[1] & 0xffff0000u)}};
}
INLINE VF OfHalves(Words2 w, const f16*) {
  return {{FloatFromF16((u16)w.w[0]), FloatFromF16((u16)(w.w[0] >> 16)), FloatFromF16((u16)w.w[1]),
           FloatFromF16((u16)(w.w[1] >> 16))}};
}
INLINE VF Load(const bf16* p) { return OfHalves(*(const Words2*)(p + First()), p); }
INLINE VF Load(const f16* p) { return OfHalves(*(const Words2*)(p + First()), p); }
INLINE VF LoadDependent(const f32* p) {
  const Words4 w = LoadDependent16(p + First());
  VF r;
  Unpack(w, p, r.v);
  return r;
}
INLINE VF LoadDependent(const bf16* p) { return OfHalves(LoadDependent8(p + First()), p); }
INLINE VF LoadDependent(const f16* p) { return OfHalves(LoadDependent8(p + First()), p); }
INLINE void StoreElements(f32* p, VF v) { *(Words4*)(p + First()) = {{BitsOf(v.v[0]), BitsOf(v.v[1]), BitsOf(v.v[2]), BitsOf(v.v[3])}}; }
INLINE void StoreElements(bf16* p, VF v) {
  *(Words2*)(p + First()) = {{Bf16PairFromFloats(v.v[0], v.v[1]), Bf16PairFromFloats(v.v[2], v.v[3])}};
}
INLINE void StoreElements(f16* p, VF v) {
  *(Words2*)(p + First()) = {{F16FromFloat(v.v[0]) | (u32)F16FromFloat(v.v[1]) << 16,
                              F16FromFloat(v.v[2]) | (u32)F16FromFloat(v.v[3]) << 16}};
}

template <class T> INLINE VF LoadTail(const T* p, int n) {
  VF r;
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = First() + i < n ? Get(p + First() + i) : 0.0f;
  return r;
}
template <class T> INLINE VF LoadDependentTail(const T* p, int n) {
  VF r;
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = First() + i < n ? GetDependent(p + First() + i) : 0.0f;
  return r;
}
// In all threads.
INLINE float Sum(VF v) {
  const float sum = WarpSum((v.v[0] + v.v[1]) + (v.v[2] + v.v[3]));
  SyncTeam();  // what was summed before has been read
  if (Lane() == 0) Scratch()[ThreadIndex() / 32] = sum;
  SyncTeam();
  float total = 0;
  UNROLL for (int i = 0; i < kThreads / 32; ++i) total += Scratch()[i];
  return total;
}

constexpr int kVectors = (int)(kStaged / LANES);
constexpr int kRest = (int)(kK % LANES);  // elements of the last vector; 0: all
template <class T> INLINE VF LoadVector(const T* row, int v) {
  return kRest != 0 && v == kVectors - 1 ? LoadTail(row + v * LANES, kRest) : Load(row + v * LANES);
}
template <class T> INLINE VF LoadDependentVector(const T* row, int v) {
  return kRest != 0 && v == kVectors - 1 ? LoadDependentTail(row + v * LANES, kRest) : LoadDependent(row + v * LANES);
}
template <class T> INLINE void LoadDependentRow(const T* row, VF* vectors) {
  UNROLL for (int v = 0; v < kVectors; ++v) vectors[v] = LoadDependentVector(row, v);
}
constexpr float kEps = 1.000000000e-05f;

struct Before {
  VF weights[kVectors];
};
INLINE Before StageBefore(const ph_args* args) {
  const NormW* const weight = Operand<const NormW>(args, kNorm);
  Before before;
  UNROLL for (int v = 0; v < kVectors; ++v) before.weights[v] = LoadVector(weight, v);
  return before;
}

INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before& before) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  VF squares = Splat(0);
  UNROLL for (int v = 0; v < kVectors; ++v) squares = Fma(vectors[v], vectors[v], squares);
  const VF scale = Splat(Rsqrt(Sum(squares) / (float)kK + kEps));
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v] * scale * before.weights[v]);
}
}  // namespace team

KERNEL(matmul_stage_rows, team::kThreads, 1, ph_gpu_args) {
  LaunchDependents();
  const ph_args args = ArgsOf(params);
  const team::Before before = team::StageBefore(&args);
  WaitDependencies();
  const i64 row = BlockIndex();
  team::StageRow(&args, row, Operand<Element>(&args, kStagedRows) + row * kAStride, before);
}
constexpr int kA = 0;
constexpr int kWeight0 = 1;
constexpr int kWeight1 = 2;
constexpr int kOut = 3;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 8192 : 8192; }
constexpr int kLists = 2;
constexpr i64 kTotal = 8192;
constexpr bool kPairsInHeads = false;

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
// sums += a b, or a b: a 64 x 16, b as many columns x 16, as a weight matrix lies; a thread has the
// elements that it would have of 16-row tiles in MultiplyBf16, its warp's 16 rows.
INLINE void MultiplyMatrices(float (&sums)[128], u64 a, u64 b, bool add) {
  asm volatile(
      "{ .reg .pred p; setp.ne.b32 p, %128, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, %130, %129, p, 1, 1, 0, 0; }"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), "+f"(sums[6]), "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]), "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]), "+f"(sums[14]), "+f"(sums[15]), "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]), "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]), "+f"(sums[26]), "+f"(sums[27]), "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]), "+f"(sums[31]), "+f"(sums[32]), "+f"(sums[33]), "+f"(sums[34]), "+f"(sums[35]), "+f"(sums[36]), "+f"(sums[37]), "+f"(sums[38]), "+f"(sums[39]), "+f"(sums[40]), "+f"(sums[41]), "+f"(sums[42]), "+f"(sums[43]), "+f"(sums[44]), "+f"(sums[45]), "+f"(sums[46]), "+f"(sums[47]), "+f"(sums[48]), "+f"(sums[49]), "+f"(sums[50]), "+f"(sums[51]), "+f"(sums[52]), "+f"(sums[53]), "+f"(sums[54]), "+f"(sums[55]), "+f"(sums[56]), "+f"(sums[57]), "+f"(sums[58]), "+f"(sums[59]), "+f"(sums[60]), "+f"(sums[61]), "+f"(sums[62]), "+f"(sums[63]), "+f"(sums[64]), "+f"(sums[65]), "+f"(sums[66]), "+f"(sums[67]), "+f"(sums[68]), "+f"(sums[69]), "+f"(sums[70]), "+f"(sums[71]), "+f"(sums[72]), "+f"(sums[73]), "+f"(sums[74]), "+f"(sums[75]), "+f"(sums[76]), "+f"(sums[77]), "+f"(sums[78]), "+f"(sums[79]), "+f"(sums[80]), "+f"(sums[81]), "+f"(sums[82]), "+f"(sums[83]), "+f"(sums[84]), "+f"(sums[85]), "+f"(sums[86]), "+f"(sums[87]), "+f"(sums[88]), "+f"(sums[89]), "+f"(sums[90]), "+f"(sums[91]), "+f"(sums[92]), "+f"(sums[93]), "+f"(sums[94]), "+f"(sums[95]), "+f"(sums[96]), "+f"(sums[97]), "+f"(sums[98]), "+f"(sums[99]), "+f"(sums[100]), "+f"(sums[101]), "+f"(sums[102]), "+f"(sums[103]), "+f"(sums[104]), "+f"(sums[105]), "+f"(sums[106]), "+f"(sums[107]), "+f"(sums[108]), "+f"(sums[109]), "+f"(sums[110]), "+f"(sums[111]), "+f"(sums[112]), "+f"(sums[113]), "+f"(sums[114]), "+f"(sums[115]), "+f"(sums[116]), "+f"(sums[117]), "+f"(sums[118]), "+f"(sums[119]), "+f"(sums[120]), "+f"(sums[121]), "+f"(sums[122]), "+f"(sums[123]), "+f"(sums[124]), "+f"(sums[125]), "+f"(sums[126]), "+f"(sums[127]) : "r"((int)add), "l"(b), "l"(a));
}
// ==== sm_90a ends ====
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
constexpr int kTileRows = 128, kTileColumns = 256, kWarpgroups = 2, kMoverWarps = 4;
constexpr int kShareX = 1, kSplit = 1, kShareW = 2, kWSlots = 5, kXSlots = 4, kWHead = 2;
constexpr bool kPersistent = true, kRagged = false;
constexpr int kHandedParts = 0;
constexpr int kMultiplierRegisters = 232, kMoverRegisters = 40;
constexpr int kBoxes = 2, kColumnGroups = 64, kItemBlocks = 4, kMostItems = 8, kPitch = 1056;
constexpr int kXRingAt = 163840, kStageAt = 0, kBarriersAt = 229376, kScalesAt = 229536;
constexpr int kParts = 2;

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

constexpr bool kHeads = false;
INLINE Box BoxAt(const Parameters& params, int column_tile, int box) {
  constexpr int kOfPart = kBoxes / 2;
  return {&params.weights[box / kOfPart], column_tile * (kTileColumns / 2) + box % kOfPart * kBoxColumns, 0};
}
// Block b of 8 columns of an item: two of the first list, two of the second.
CONSTANT int BlockOf(int item, int b) { return 2 * item + (b < 2 ? b : kColumnBlocks / 2 + b - 2); }

struct Scales {
  __device__ Scales(u8*, const Barriers&) {}
  __device__ void Begin(int) {}
  __device__ void End() {}
  template <class Vector> __device__ Vector Scaled(const Vector& sums, int, int) const { return sums; }
};
INLINE void InitScales(const Barriers&) {}
INLINE void MoveScales(const Job&, u8*, const Barriers&) {}

// Where blocks share sums, each finishes a slice of the items and sends the other slices to the blocks that finish them:
// 16 bytes a lane and block of 8 columns.
CONSTANT int SliceOf(int split) { return kItems * split / kSplit; }
constexpr int kUnits = kTileRows / 16, kUnitBytes = kMostItems * kItemBlocks * 512;
INLINE u32 BytesSentTo(int split) {
  return (u32)((kSplit - 1) * kUnits * (SliceOf(split + 1) - SliceOf(split)) * kItemBlocks * 512);
}

// To block kTo of those that share the sums, and to the next. `unit`: the first of the warp's, counted through the block.
template <int kTo> INLINE void SendSlices(const Job& job, Sums& sums, u8* shared, const Barriers& barriers, int unit) {
  if constexpr (kTo < kSplit) {
    if (kTo != job.split) {
      const int from = job.split < kTo ? job.split : job.split - 1;  // among those that send there
      const u32 done = AddressIn(barriers.exchanged, job.RankOfSplit(kTo));
      const u32 slice = AddressIn(shared, job.RankOfSplit(kTo)) + (u32)((from * kUnits + unit) * kUnitBytes + Lane() * 16);
      UNROLL for (int m = 0; m < kRowBlocks; ++m) {
        UNROLL for (int item = SliceOf(kTo); item < SliceOf(kTo + 1); ++item) {
          UNROLL for (int b = 0; b < kItemBlocks; ++b) {
            Send16(slice + (u32)(m * 4 * kUnitBytes + ((item - SliceOf(kTo)) * kItemBlocks + b) * 512),
                   sums[m] + 4 * BlockOf(item, b), done);
          }
        }
      }
    }
    SendSlices<kTo + 1>(job, sums, shared, barriers, unit);
  }
}

// Adds what the others sent to this block's slice, always in the order of k. Which slice it is must be known to the
// compiler, since sums are registers: kSlice goes through all.
template <int kSlice> INLINE void AddSent(const Job& job, Sums& sums, const u8* shared, int first_unit) {
  if constexpr (kSlice < kSplit) {
    if (job.split != kSlice) return AddSent<kSlice + 1>(job, sums, shared, first_unit);
    UNROLL for (int m = 0; m < kRowBlocks; ++m) {
      UNROLL for (int item = SliceOf(kSlice); item < SliceOf(kSlice + 1); ++item) {
        UNROLL for (int b = 0; b < kItemBlocks; ++b) {
          float* const own = sums[m] + 4 * BlockOf(item, b);
          float total[4];
          UNROLL for (int s = 0; s < kSplit; ++s) {
            float part[4] = {own[0], own[1], own[2], own[3]};
            if (s != kSlice) {
              const u8* const sent = shared + ((s < kSlice ? s : s - 1) * kUnits + first_unit + m * 4) * kUnitBytes +
                                     ((item - SliceOf(kSlice)) * kItemBlocks + b) * 512 + Lane() * 16;
              Unpack(*(const Words4*)sent, (const f32*)0, part);
            }
            UNROLL for (int i = 0; i < 4; ++i) total[i] = s == 0 ? part[i] : total[i] + part[i];
          }
          UNROLL for (int i = 0; i < 4; ++i) own[i] = total[i];
        }
      }
    }
  }
}
namespace fragment {
constexpr int LANES = 16;
struct VF {
  float v[4];
};
INLINE VF operator+(VF a, VF b) { return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}}; }
INLINE VF operator*(VF a, VF b) {
  return {{Multiply(a.v[0], b.v[0]), Multiply(a.v[1], b.v[1]), Multiply(a.v[2], b.v[2]), Multiply(a.v[3], b.v[3])}};
}
INLINE VF Silu(VF x) {
  UNROLL for (int i = 0; i < 4; ++i) x.v[i] = Multiply(x.v[i], Reciprocal(1.0f + Exp(-x.v[i])));
  return x;
}
INLINE int ColumnOf(int i) { return Lane() % 4 * 2 + i / 2 * 8 + i % 2; }
template <class T> INLINE VF LoadRun(const T* p, int count) {
  VF r;
  UNROLL for (int i = 0; i < 4; ++i) r.v[i] = ColumnOf(i) < count ? Get(p + ColumnOf(i)) : 0.0f;
  return r;
}
// Lane i of four has words 2 i and 2 i + 1 of eight: a has the words i of the first four, b of the last.
INLINE Words2 Gather(u32 a, u32 b) {
  const bool top = Lane() & 2, odd = Lane() & 1;
  const u32 other = ShuffleXor(top ? a : b, 2);
  const u32 first = top ? other : a, second = top ? b : other;  // words Lane() & 1 and 2 further on, of one four
  const u32 got = ShuffleXor(odd ? first : second, 1);
  return {{odd ? got : first, odd ? second : got}};
}
INLINE u32 PairOf(const bf16*, float low, float high) { return Bf16PairFromFloats(low, high); }
INLINE u32 PairOf(const f16*, float low, float high) { return F16FromFloat(low) | (u32)F16FromFloat(high) << 16; }
template <class T> INLINE void StoreRun(T* p, VF v, int count) {
  const Words2 words = Gather(PairOf(p, v.v[0], v.v[1]), PairOf(p, v.v[2], v.v[3]));
  const int column = Lane() % 4 * 4;
  if (column < count) *(Words2*)(p + column) = words;
}
INLINE void StoreRun(f32* p, VF v, int count) {
  UNROLL for (int i = 0; i < 4; i += 2) {
    if (ColumnOf(i) < count) *(Words2*)(p + ColumnOf(i)) = {{BitsOf(v.v[i]), BitsOf(v.v[i + 1])}};
  }
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

struct Early {};
INLINE Early Before(const ph_args*, i64, int, i64, int) { return {}; }

INLINE void Finish(const ph_args* args, i64 row, int, i64 column, int count, VF y0, VF y1, const Early&) {
  const VF gate = Biased(args, 0, column, count, y0);
  const VF up = Biased(args, 1, column, count, y1);
  StoreRun(OutputAt(args, row, column), Silu(gate) * up, count);
}
}  // namespace fragment

// Finishes the items kFrom .. kTo - 1 of all the unit's rows, whose sums are complete.
template <int kFrom, int kTo> INLINE void FinishItems(const Job& job, Sums& sums, const Unit& unit, const Scales& scales) {
  UNROLL for (int n = 0; n < kRowBlocks * (kTo - kFrom); ++n) {
    const int m = n / (kTo - kFrom), item = kFrom + n % (kTo - kFrom);
    const float* const first = sums[m] + 4 * BlockOf(item, 0);
    const float* const second = sums[m] + 4 * BlockOf(item, 2);
    const int column = unit.column_tile * (kTileColumns / 2) + item * 16;
    const int columns = !kRagged ? 16 : (int)Max(Min(kTotal - column, 16), 0);
    UNROLL for (int h = 0; h < 2; ++h) {
      const int row = unit.row + m * 64 + Lane() / 4 + 8 * h;
      const auto scaled = [&](const float* of) {
        const fragment::VF four = {{of[2 * h], of[2 * h + 1], of[4 + 2 * h], of[5 + 2 * h]}};
        return scales.Scaled(four, m, Lane() / 4 + 8 * h);
      };
      const fragment::VF y0 = scaled(first), y1 = scaled(second);
      fragment::Finish(&job.args, row, 0, column, row < job.rows ? columns : 0, y0, y1, {});
    }
  }
}
// ready() returns when the sums are complete.
template <class Ready> INLINE void FinishTile(const Job& job, Sums& sums, const Unit& unit, const Scales& scales, Ready ready) {
  ready();
  FinishItems<0, kItems>(job, sums, unit, scales);
}
template <int kSlice> INLINE void FinishOwn(const Job& job, Sums& sums, const Unit& unit, const Scales& scales) {
  if constexpr (kSlice < kSplit) {
    if (job.split != kSlice) return FinishOwn<kSlice + 1>(job, sums, unit, scales);
    FinishItems<SliceOf(kSlice), SliceOf(kSlice + 1)>(job, sums, unit, scales);
  }
}
template <class Ready> INLINE void FinishSlice(const Job& job, Sums& sums, const Unit& unit, const Scales& scales, Ready ready) {
  ready();
  FinishOwn<0>(job, sums, unit, scales);
}

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
