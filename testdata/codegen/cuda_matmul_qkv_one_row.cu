
typedef f32 X;
typedef bf16 NormW;
constexpr i64 kK = 3072, kStaged = 3072;
constexpr i64 kXStride = 3072;
typedef bf16 W;
typedef bf16 Out;
constexpr i64 kOutStride = 3072;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kWeight0 = 2;
constexpr int kWeight1 = 3;
constexpr int kWeight2 = 4;
constexpr int kRotary = 5;
constexpr int kKeys = 6;
constexpr int kValues = 7;
constexpr int kOut = 8;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 3072 : part == 1 ? 1024 : 1024; }
constexpr int kWarps = 4, kBlocksPerSm = 2, kRows = 1, kLists = 2, kTeam = 2;
constexpr i64 kTiles = 2560;
constexpr int kXAt = 73728, kExchangeAt = 80000;

namespace team {
constexpr int kThreads = 128, LANES = kThreads * 4;
INLINE float* Scratch() { return (float*)(SharedMemory() + 79872); }
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

namespace warp {
constexpr int LANES = 32;
struct VF {
  float v;
};
INLINE VF Splat(float x) { return {x}; }
INLINE VF operator+(VF a, VF b) { return {a.v + b.v}; }
INLINE VF operator-(VF a, VF b) { return {a.v - b.v}; }
INLINE VF operator*(VF a, VF b) { return {Multiply(a.v, b.v)}; }
INLINE VF Silu(VF x) { return {::Silu(x.v)}; }
template <class T> INLINE VF Load(const T* p) { return {Get(p + Lane())}; }
template <class T> INLINE VF LoadDependent(const T* p) { return {GetDependent(p + Lane())}; }
template <class T> INLINE void Store(T* p, VF v) { Put(p + Lane(), v.v); }
template <class T> INLINE VF LoadTail(const T* p, int n) { return {Lane() < n ? Get(p + Lane()) : 0.0f}; }
template <class T> INLINE VF LoadDependentTail(const T* p, int n) { return {Lane() < n ? GetDependent(p + Lane()) : 0.0f}; }
template <class T> INLINE void StoreTail(T* p, VF v, int n) {
  if (Lane() < n) Put(p + Lane(), v.v);
}
// The i-th of `count` elements goes to address(i).
template <class T, class Address> INLINE void StoreEach(VF v, int count, Address address) {
  if (Lane() < count) Put((T*)address(Lane()), v.v);
}

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

template <class T> INLINE VF LoadRun(const T* p, int count) {
  return count == LANES ? Load(p) : LoadTail(p, count);
}
template <class T> INLINE VF LoadDependentRun(const T* p, int count) {
  return count == LANES ? LoadDependent(p) : LoadDependentTail(p, count);
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) {
  if (count == LANES) {
    Store(p, v);
  } else {
    StoreTail(p, v, count);
  }
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

constexpr i64 kHalf = kHeadDim / 2;

struct Early {
  VF cos, sin;
};
INLINE Early Before(const ph_args* args, i64 row, int part, i64 column, int count) {
  if (part == 2) return {VF{}, VF{}};
  const f32* turn = Operand<const f32>(args, kRotary) + (args->past + row) * kHeadDim + (u32)column % (u32)kHeadDim;  // [2][kHalf]
  return {LoadRun(turn, count), LoadRun(turn + kHalf, count)};
}

INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  CacheElement* cache = keys ? Operand<CacheElement>(args, kKeys) : Operand<CacheElement>(args, kValues);
  const i64 position = args->past + row;
  StoreEach<CacheElement>(y, count, [&](int i) {
    return cache + (keys ? KeyOffset(args->capacity, head, position, d + i) : ValueOffset(args->capacity, head, position, d + i));
  });
}

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF y1, const Early& early) {
  const i64 head = (u32)column / (u32)kHeadDim, d = (u32)column % (u32)kHeadDim;
  y0 = Biased(args, part, column, count, y0);
  y1 = Biased(args, part, column + kHalf, count, y1);
  if (part != 2) {
    const VF turned = y0 * early.cos - y1 * early.sin;
    y1 = y1 * early.cos + y0 * early.sin;
    y0 = turned;
  }
  if (part != 0) {
    Append(args, row, part == 1, head, d, count, y0);
    Append(args, row, part == 1, head, d + kHalf, count, y1);
  } else {
    StoreRun(OutputAt(args, row, column), y0, count);
    StoreRun(OutputAt(args, row, column + kHalf), y1, count);
  }
}

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  constexpr i64 kTilesPerHead = kHalf / kRows;
  i64 head = t / kTilesPerHead;
  int part = 0;
  for (; part < 2 && head >= ColumnsOf(part) / kHeadDim; ++part) head -= ColumnsOf(part) / kHeadDim;
  const i64 column = head * kHeadDim + t % kTilesPerHead * kRows;
  return {part, column, kRows, part, column + kHalf};
}
}  // namespace warp

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
constexpr int kSlots = 3, kSlotBytes = 6144, kBarriersAt = 84096;

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
