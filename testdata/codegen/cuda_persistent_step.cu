
constexpr int kWarps = 8, kStages = 11, kChunk = 512, kWindow = 4, kMeetings = 12;
constexpr int kSumsAt = 106496, kLinksAt = 109696, kBarriersAt = 110976, kWindowAt = 111232;
constexpr u32 kRounds = 3;  // of a step: tags
constexpr int kAttention = 2, kLastOfLayers = 5;

constexpr int kMostLooks = 1 << 22;  // seconds: far beyond any step
constexpr u32 kTagMask = 0xff;

template <class T> struct Flagged { u32 word; };
INLINE float ValueOf(u32 word) { return FloatOf(word & ~kTagMask); }
INLINE u32 WordOf(const bf16*, float x, u32 tag) { return (u32)Bf16FromFloat(x) << 16 | tag; }
INLINE u32 WordOf(const f32*, float x, u32 tag) {
  const u32 bits = x == x ? BitsOf(x) : 0x7fc00000u;
  return ((bits + 0x7fu + (bits >> 8 & 1)) & ~kTagMask) | tag;  // to nearest, ties to even
}
INLINE bool HasTag(u32 word, u32 tag) { return (word & kTagMask) == tag; }
INLINE bool HasTag(const Words2& words, u32 tag) { return HasTag(words.w[0], tag) && HasTag(words.w[1], tag); }
INLINE bool HasTag(const Words4& words, u32 tag) {
  return HasTag(words.w[0], tag) && HasTag(words.w[1], tag) && HasTag(words.w[2], tag) && HasTag(words.w[3], tag);
}
// Two values as a pair of bf16, which they are.
INLINE u32 PairOf(u32 low, u32 high) { return low >> 16 | (high & 0xffff0000u); }

template <class T> struct FlaggedPointer {
  u32* words;
  u32 tag;
};
template <class T> INLINE FlaggedPointer<T> operator+(FlaggedPointer<T> p, i64 n) { return {p.words + n, p.tag}; }
// Words that are read have the tag of the link's round; those that are written, too, but for what the next round reads.
template <class T> struct PointerTo<const Flagged<T>> {
  typedef FlaggedPointer<T> Type;
  INLINE Type At(const ph_args* args, int index) { return {(u32*)args->operands[index], args->tag}; }
};
template <class T> struct PointerTo<Flagged<T>> {
  typedef FlaggedPointer<T> Type;
  INLINE Type At(const ph_args* args, int index) { return {(u32*)args->operands[index], args->written_tag}; }
};
template <class T> INLINE void Put(FlaggedPointer<T> p, float x) { StoreRelaxed4(p.words, WordOf((const T*)0, x, p.tag)); }

// Asks for all of `count` words before it looks at the first, then again for those that are not there yet.
template <int kCount, class Words, class Load, class Again> INLINE void Await(Words* words, u32 tag, Load load, Again again) {
  UNROLL for (int i = 0; i < kCount; ++i) words[i] = load(i);
  NO_UNROLL for (int look = 0;; ++look) {
    bool all = true;
    UNROLL for (int i = 0; i < kCount; ++i) {
      if (HasTag(words[i], tag)) continue;
      all = false;
      words[i] = again(i);
    }
    if (all) break;
    if (look == kMostLooks) Trap();
  }
}

constexpr int kTileRows = 8;
constexpr int kRowPitch = kChunk * 2 + 64;
constexpr int kStageBytes = kTileRows * kRowPitch;

INLINE CopyBarrier* Full(int stage) { return (CopyBarrier*)(SharedMemory() + kBarriersAt) + stage; }
INLINE CopyBarrier* Empty(int stage) { return Full(kStages + stage); }
INLINE u8* Stage(int stage) { return SharedMemory() + stage * kStageBytes; }
// How many stages may be under way: fewer while the block waits for words.
INLINE volatile i32* Window() { return (volatile i32*)(SharedMemory() + kWindowAt); }
// The consumers' threads.
INLINE void SyncConsumers() { SyncNamed(1, kWarps * 32); }

// As WaitBarrier, but for its loop, which is in the open here: the assembler arranges it better where waits are many.
INLINE void WaitStage(CopyBarrier* barrier, u32 parity) {
  NO_UNROLL for (int i = 0; !TryWaitBarrier(barrier, parity); ++i) {
    if (i == 1 << 14) Trap();
  }
}

struct RingPlace {
  int stage;
  u32 turn;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      turn ^= 1;
    }
  }
};

// Must match abi/kernel_abi.h.
struct ph_link {
  void* operands[16];
  i32 kind;
  i32 round;
};
static_assert(sizeof(ph_link) == 136);

// The table of links as one warp walks it: a link is asked for while the one before runs, and lies in shared memory
// that is the warp's own.
class Links {
 public:
  __device__ Links(const ph_gpu_args& params, int warp)
      : table_((const i64*)params.operands[0]), count_((int)params.tiles), mine_((i64*)(SharedMemory() + kLinksAt) + warp * kParts) {
    Ask(0);
  }
  // The next link, until the next call.
  __device__ const ph_link& Next() {
    SyncWarp();
    if (Lane() < kParts) mine_[Lane()] = part_;
    SyncWarp();
    Ask(++index_);
    return *(const ph_link*)mine_;
  }

 private:
  static constexpr int kParts = sizeof(ph_link) / 8;
  __device__ void Ask(int index) {
    if (index < count_ && Lane() < kParts) part_ = LoadEarlierI64(table_ + index * kParts + Lane());
  }

  const i64* table_;
  int count_;
  i64* mine_;
  i64 part_ = 0;
  int index_ = 0;
};

class Producer {
 public:
  __device__ Producer() : policy_(EvictFirst()) {}

  // The lane's stage, of `bytes` in all, when it is free and the window lets it be filled. All lanes.
  __device__ void Open(u32 bytes) {
    const int window = *Window();
    while (under_way_ >= window) {
      WaitStage(Full(oldest_.stage), oldest_.turn);
      oldest_.Next();
      --under_way_;
    }
    ++under_way_;
    WaitStage(Empty(place_.stage), place_.turn ^ 1);
    if (Lane() == 0) ExpectBytes(Full(place_.stage), bytes);
    SyncWarp();
  }
  __device__ void Copy(int at, const void* from, u32 bytes) {
    CopyBulk(Stage(place_.stage) + at, from, bytes, Full(place_.stage), policy_);
  }
  __device__ void Close() { place_.Next(); }

 private:
  u64 policy_;
  RingPlace place_ = {0, 0};
  RingPlace oldest_ = {0, 0};
  int under_way_ = 0;
};

struct Consumer {
  int warp;
  RingPlace place = {0, 0};
  int tiles = 0;  // of products so far, modulo kParts of sums: who finishes the next, and where its sums meet
  u32 tag = 0;    // of the step's first round
  u32 parts_tag = 0;  // the same of the words of attention's parts, which not every step writes
  u32* epoch = 0;
  Words2 epochs = {};  // steps so far, and those of them that had parts
};
namespace link0 {
typedef bf16 TableElement;
typedef f32 ResultElement;
constexpr i64 kVocab = 384, kWidth = 512;

INLINE void Produce(const ph_args*, Producer*) {}
// The first link, which also tells of what round the step's words are: each step's tags follow the last one's.
INLINE void Consume(const ph_args* link, Consumer* consumer) {
  consumer->epoch = Operand<u32>(link, 3);
  consumer->epochs = LoadDependent8(consumer->epoch);
  consumer->tag = consumer->epochs.w[0] * kRounds + 1;
  consumer->parts_tag = consumer->epochs.w[1] * kRounds + 1;
  const i64 id = Max(Min((i64)(i32)LoadDependent4(Operand<const i32>(link, 0)), kVocab - 1), 0);
  ph_args args = *link;
  args.written_tag = consumer->tag & kTagMask;
  const TableElement* const from = Operand<const TableElement>(&args, 1) + id * kWidth;
  const auto to = Operand<Flagged<ResultElement>>(&args, 2);
  NO_UNROLL for (int d = BlockIndex() * kWarps * 32 + ThreadIndex(); d < kWidth; d += BlockCount() * kWarps * 32) {
    Put(to + d, Get(from + d));
  }
}
}  // namespace link0
namespace link1 {

typedef Flagged<f32> X;
typedef bf16 NormW;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
typedef bf16 W;
typedef Flagged<bf16> Out;
constexpr i64 kOutStride = 512;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kWeight0 = 2;
constexpr int kWeight1 = 3;
constexpr int kWeight2 = 4;
constexpr int kRotary = 5;
constexpr int kKeys = 6;
constexpr int kValues = 7;
constexpr int kOut = 8;
constexpr int kFresh = 9;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 512 : part == 1 ? 128 : 128; }
constexpr int kRows = 4, kLists = 2;
constexpr i64 kTiles = 96;

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

template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
}

typedef bf16 CacheElement;
constexpr i64 kKvHeads = 2, kHeadDim = 64;
constexpr bool kSwizzled = true;

constexpr u32 kPieceElements = 16 / sizeof(CacheElement);
// Where the piece-th 16 bytes of a position's row stand in it.
INLINE i64 PieceAt(i64 position, i64 piece) { return kSwizzled ? (u32)piece ^ ((u32)position & 7) : (u32)piece; }
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const u32 piece = (u32)d / kPieceElements, rest = (u32)d % kPieceElements;
  return (kv_head * capacity + position) * kHeadDim + (PieceAt(position, piece) * kPieceElements + rest);
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) { return KeyOffset(capacity, kv_head, position, d); }
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
namespace ToCache {
INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  CacheElement* cache = keys ? Operand<CacheElement>(args, kKeys) : Operand<CacheElement>(args, kValues);
  const i64 position = args->past + row;
  StoreEach<CacheElement>(y, count, [&](int i) {
    return cache + (keys ? KeyOffset(args->capacity, head, position, d + i) : ValueOffset(args->capacity, head, position, d + i));
  });
}
}

INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  StoreRun(Operand<Flagged<CacheElement>>(args, kFresh) + ((keys ? 0 : kKvHeads) + head) * kHeadDim + d, y, count);
  ToCache::Append(args, row, keys, head, d, count, y);
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

INLINE const W* RowOf(const ph_args* args, i64 t, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && row >= kRows;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + column * kK;
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const int row = Lane() % kTileRows;
  NO_UNROLL for (i64 t = BlockIndex(); t < kTiles; t += BlockCount()) {
    const W* const from = RowOf(args, t, row);
    UNROLL_BY_4 for (int c = 0; c < (int)(kK / kChunk); ++c) {
      producer->Open(kTileRows * kChunk * 2);
      if (Lane() < kTileRows) producer->Copy(row * kRowPitch, from + c * kChunk, kChunk * 2);
      producer->Close();
    }
  }
}

// What the epilogue of tile t reads besides its sums.
INLINE warp::Early Before(const ph_args* args, i64 t) {
  const warp::Tile tile = warp::TileAt(t);
  return warp::Before(args, 0, tile.part, tile.column, tile.count);
}
// `sum`: of the tile's row that is the lane, in the first lanes.
INLINE void Finish(const ph_args* args, i64 t, float sum, const warp::Early& early) {
  const warp::Tile tile = warp::TileAt(t);
  const float second = kLists == 2 ? ShuffleFrom(sum, (Lane() + kRows) % 32) : 0.0f;
  warp::Finish(args, 0, tile.part, tile.column, tile.count, warp::VF{sum}, warp::VF{second}, early);
}
}  // namespace link1
namespace link2 {
constexpr int kQuery = 0;
constexpr int kKeys = 1;
constexpr int kValues = 2;
constexpr int kResult = 3;
constexpr int kFresh = 4;
constexpr int kParts = 5;

typedef bf16 CacheElement;
constexpr i64 kKvHeads = 2, kHeadDim = 64;
constexpr bool kSwizzled = true;

constexpr u32 kPieceElements = 16 / sizeof(CacheElement);
// Where the piece-th 16 bytes of a position's row stand in it.
INLINE i64 PieceAt(i64 position, i64 piece) { return kSwizzled ? (u32)piece ^ ((u32)position & 7) : (u32)piece; }
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const u32 piece = (u32)d / kPieceElements, rest = (u32)d % kPieceElements;
  return (kv_head * capacity + position) * kHeadDim + (PieceAt(position, piece) * kPieceElements + rest);
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) { return KeyOffset(capacity, kv_head, position, d); }
typedef bf16 ResultElement;
constexpr int kGroup = 4, kScratchAt = 97792, kMostParts = 16, kFew = 512;
constexpr int kWindowMeanwhile = 3;
constexpr float kScaleOfTwo = 1.803368777e-01f;

constexpr int kPositions = kTileRows * kChunk * 2 / (2 * (int)kHeadDim * 2);  // of a stage: keys, then values
constexpr int kRowBytes = (int)kHeadDim * 2;
constexpr int kStepsOfStage = kPositions / 8;
constexpr float kLowest = -0x1p100f;  // below any score, and a word as it is
constexpr int kMergePitch = (int)kHeadDim + 4;
constexpr int kPartWords = (int)kHeadDim + 2;  // of one head: outputs, maximum, sum
static_assert(kStepsOfStage <= kWarps && kWarps % kStepsOfStage == 0);

// What of the cache the block attends to: its positions, of a KV head and of each BlockCount() heads on.
struct Share {
  int kv_head;  // kKvHeads and more: nothing
  int part, parts;
  int begin, end;
};
INLINE Share ShareOf(int past) {
  const int block = BlockIndex(), blocks = BlockCount();
  if (past <= kFew) return {blocks - 1 - block, 0, 1, 0, past};
  int parts = 1;
  while (parts < kMostParts && parts * 2 * (int)kKvHeads <= blocks) parts *= 2;
  const int each = (int)Max((i64)((past + parts - 1) / parts + 7) / 8 * 8, (i64)8);
  const int part = block % parts, begin = (int)Min((i64)past, (i64)part * each);
  return {block / parts, part, parts, begin, (int)Min((i64)past, (i64)begin + each)};
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const Share share = ShareOf((int)args->past);
  NO_UNROLL for (int kv_head = share.kv_head; kv_head < kKvHeads; kv_head += BlockCount()) {
    const CacheElement* const keys = Operand<const CacheElement>(args, kKeys) + KeyOffset(args->capacity, kv_head, 0, 0);
    const CacheElement* const values = Operand<const CacheElement>(args, kValues) + ValueOffset(args->capacity, kv_head, 0, 0);
    NO_UNROLL for (int p = share.begin; p < share.end; p += kPositions) {
      const u32 bytes = (u32)Min((i64)kPositions, (i64)share.end - p) * kRowBytes;
      producer->Open(2 * bytes);
      if (Lane() == 0) {
        producer->Copy(0, keys + (i64)p * kHeadDim, bytes);
        producer->Copy(kPositions * kRowBytes, values + (i64)p * kHeadDim, bytes);
      }
      producer->Close();
    }
  }
}

// The state of one head's softmax in the lanes 4 g .. 4 g + 3: a lane's outputs are 8 i + 2 (lane % 4), and the next.
struct Softmax {
  float max, sum;
  float outputs[kHeadDim / 8][2];
};

// Eight positions, the first `valid` of which count; 16-byte pieces of a row stand where the cache has them.
INLINE void Attend(Softmax* softmax, const u32 (*query)[2], const u8* keys, const u8* values, int valid) {
  const int lane = Lane(), row = lane % 8;
  float scores[4] = {};
  UNROLL for (int i = 0; i < kHeadDim / 32; ++i) {
    u32 b[4];
    LoadMatrices(b, keys + row * kRowBytes + PieceAt(row, i * 4 + lane / 8) * 16);
    UNROLL for (int j = 0; j < 2; ++j) {
      const u32 a[4] = {query[2 * i + j][0], 0, query[2 * i + j][1], 0};
      MultiplyBf16(scores, a, b + 2 * j);
    }
  }
  const int first = lane % 4 * 2;
  const float score0 = first < valid ? scores[0] * kScaleOfTwo : kLowest;
  const float score1 = first + 1 < valid ? scores[1] * kScaleOfTwo : kLowest;
  float max = Max(score0, score1);
  max = Max(max, ShuffleXor(max, 1));
  max = Max(max, ShuffleXor(max, 2));
  max = Max(max, softmax->max);
  const float rescale = PowerOfTwo(softmax->max - max);
  const float weight0 = first < valid ? PowerOfTwo(score0 - max) : 0.0f;
  const float weight1 = first + 1 < valid ? PowerOfTwo(score1 - max) : 0.0f;
  softmax->sum = softmax->sum * rescale + weight0 + weight1;  // this lane's share
  softmax->max = max;
  // What lies behind the valid rows may be no number.
  const u32 keep = (first < valid ? 0xffffu : 0) | (first + 1 < valid ? 0xffff0000u : 0);
  const u32 a[4] = {Bf16PairFromFloats(weight0, weight1), 0, 0, 0};
  UNROLL for (int i = 0; i < kHeadDim / 32; ++i) {
    u32 b[4];
    LoadMatricesTransposed(b, values + row * kRowBytes + PieceAt(row, i * 4 + lane / 8) * 16);
    UNROLL for (int j = 0; j < 4; ++j) {
      float* const outputs = softmax->outputs[i * 4 + j];
      float sums[4] = {outputs[0] * rescale, outputs[1] * rescale, 0, 0};
      const u32 pair[2] = {b[j] & keep, 0};
      MultiplyBf16(sums, a, pair);
      outputs[0] = sums[0];
      outputs[1] = sums[1];
    }
  }
}

// One row of bf16 out of words, by a warp.
INLINE void TakeRow(FlaggedPointer<bf16> row, u8* to) {
  constexpr int kLanes = (int)kHeadDim / 4;
  Words4 words[1];
  const u32* const at = row.words + Min((i64)Lane(), (i64)kLanes - 1) * 4;
  Await<1>(words, row.tag, [&](int) { return LoadDependent16(at); }, [&](int) { return LookAgain16(at); });
  SyncWarp();
  if (Lane() < kLanes) {
    *(Words2*)(to + Lane() * 8) = {{PairOf(words[0].w[0], words[0].w[1]), PairOf(words[0].w[2], words[0].w[3])}};
  }
}

INLINE void ConsumeHead(const ph_args& args, Consumer* consumer, const Share& share, int kv_head) {
  const int lane = Lane(), head = lane / 4;
  u8* const scratch = SharedMemory() + kScratchAt;

  u32 query[kHeadDim / 16][2];
  {
    constexpr int kPairs = (int)kHeadDim / 8;
    Words2 words[kPairs];
    const auto row = Operand<const Flagged<bf16>>(&args, kQuery) + (kv_head * kGroup + (head < kGroup ? head : 0)) * kHeadDim + lane % 4 * 2;
    if (ThreadIndex() == 0) *Window() = kWindowMeanwhile;
    Await<kPairs>(words, row.tag, [&](int i) { return LoadDependent8(row.words + i * 8); },
                  [&](int i) { return LookAgain8(row.words + i * 8); });
    if (ThreadIndex() == 0) *Window() = kWindow;
    SyncWarp();
    UNROLL for (int i = 0; i < kPairs; ++i) query[i / 2][i % 2] = head < kGroup ? PairOf(words[i].w[0], words[i].w[1]) : 0;
  }

  Softmax softmax;
  softmax.max = kLowest;
  softmax.sum = 0;
  UNROLL for (int i = 0; i < kHeadDim / 8; ++i) softmax.outputs[i][0] = softmax.outputs[i][1] = 0;
  // After the cache's positions one warp of a head takes the step's own, which is not in it yet.
  const bool takes_fresh = share.part == 0 && consumer->warp == kWarps - 1;
  const int end = takes_fresh ? share.end + 1 : share.end;
  NO_UNROLL for (int p = share.begin; p < end;) {
    const int n = (int)Min((i64)kPositions, (i64)share.end - p);
    const bool fresh = n == 0;
    // A stage is of a few warps alone: the others go on to the next, and do not look at this one's barrier.
    const int step = consumer->warp - (p - share.begin) / 8 % kWarps;
    const bool mine = !fresh && step >= 0 && step < kStepsOfStage;
    const u8* keys = scratch;
    const u8* values = scratch + 8 * kRowBytes;
    int valid = 1;
    if (fresh) {
      // Eight rows of keys, eight of values: the first, and nothing.
      const auto rows = Operand<const Flagged<bf16>>(&args, kFresh) + kv_head * kHeadDim;
      for (int i = lane; i < 16 * kRowBytes / 16; i += 32) *(Words4*)(scratch + i * 16) = Words4{};
      SyncWarp();
      TakeRow(rows, scratch);
      TakeRow(rows + kKvHeads * kHeadDim, scratch + 8 * kRowBytes);
      SyncWarp();
    } else if (mine) {
      WaitStage(Full(consumer->place.stage), consumer->place.turn);
      keys = Stage(consumer->place.stage) + step * 8 * kRowBytes;
      values = keys + kPositions * kRowBytes;
      valid = (int)Min((i64)8, (i64)n - step * 8);
    } else {
      valid = 0;
    }
    if (valid > 0) Attend(&softmax, query, keys, values, valid);
    if (mine) {
      SyncWarp();
      if (lane < kWarps / kStepsOfStage) Arrive(Empty(consumer->place.stage));
    }
    if (!fresh) consumer->place.Next();
    p += fresh ? 1 : n;
  }
  softmax.sum += ShuffleXor(softmax.sum, 1);
  softmax.sum += ShuffleXor(softmax.sum, 2);

  // [kWarps][kGroup][kMergePitch]: outputs, maximum, sum.
  float* const merge = (float*)scratch;
  SyncConsumers();  // the fresh rows have been read
  if (head < kGroup) {
    float* const to = merge + (consumer->warp * kGroup + head) * kMergePitch;
    UNROLL for (int i = 0; i < kHeadDim / 8; ++i) {
      UNROLL for (int j = 0; j < 2; ++j) to[i * 8 + lane % 4 * 2 + j] = softmax.outputs[i][j];
    }
    if (lane % 4 == 0) {
      to[kHeadDim] = softmax.max;
      to[kHeadDim + 1] = softmax.sum;
    }
  }
  SyncConsumers();
  const auto result = Operand<Flagged<ResultElement>>(&args, kResult) + kv_head * kGroup * kHeadDim;
  const auto put = [&](i64 at, float value0, float value1) {
    const ResultElement* const type = 0;
    StoreRelaxed8(result.words + at, {{WordOf(type, value0, result.tag), WordOf(type, value1, result.tag)}});
  };
  // [kv head][part][head of the group][kPartWords]
  ph_args of_parts = args;
  of_parts.written_tag = (consumer->parts_tag + (args.tag - consumer->tag)) & kTagMask;
  const auto all = Operand<Flagged<f32>>(&of_parts, kParts) + (i64)kv_head * kMostParts * kGroup * kPartWords;
  const int thread = ThreadIndex();
  constexpr int kPairsOfGroup = kGroup * (int)kHeadDim / 2;
  static_assert(kPairsOfGroup <= kWarps * 32);
  if (thread < kPairsOfGroup) {
    // A pair of a head's outputs: what all warps have of it.
    const int h = thread * 2 / (int)kHeadDim, d = thread * 2 % (int)kHeadDim;
    float max = kLowest;
    UNROLL for (int w = 0; w < kWarps; ++w) max = Max(max, merge[(w * kGroup + h) * kMergePitch + kHeadDim]);
    max = ValueOf(WordOf((const f32*)0, max, 0));  // as precise as words are
    float value0 = 0, value1 = 0, sum = 0;
    UNROLL for (int w = 0; w < kWarps; ++w) {
      const float* const part = merge + (w * kGroup + h) * kMergePitch;
      const float weight = PowerOfTwo(part[kHeadDim] - max);
      value0 = FusedMultiplyAdd(weight, part[d], value0);
      value1 = FusedMultiplyAdd(weight, part[d + 1], value1);
      sum = FusedMultiplyAdd(weight, part[kHeadDim + 1], sum);
    }
    if (share.parts == 1) {
      put(h * kHeadDim + d, Divide(value0, sum), Divide(value1, sum));
    } else {
      const auto put_part = [&](int at, float first, float second) {
        const f32* const type = 0;
        StoreRelaxed8(all.words + (share.part * kGroup + h) * kPartWords + at,
                      {{WordOf(type, first, all.tag), WordOf(type, second, all.tag)}});
      };
      put_part(d, value0, value1);
      if (d == 0) put_part(kHeadDim, max, sum);
    }
  }
  SyncConsumers();  // the scratch is free
  if (share.parts == 1) return;
  // Lanes that are neighbours have a pair of outputs of neighbouring parts.
  if (thread >= kPairsOfGroup) return;
  const int out = share.part * (kPairsOfGroup / share.parts) + thread / share.parts;
  const int h = out * 2 / (int)kHeadDim, d = out * 2 % (int)kHeadDim;
  const u32* const from = all.words + (thread % share.parts * kGroup + h) * kPartWords;
  Words2 words[2];
  const auto at = [&](int i) { return from + (i == 0 ? d : (int)kHeadDim); };
  Await<2>(words, all.tag, [&](int i) { return LoadDependent8(at(i)); }, [&](int i) { return LookAgain8(at(i)); });
  SyncWarp();
  const float max = ValueOf(words[1].w[0]);
  float most = max;
  for (int mask = share.parts / 2; mask > 0; mask /= 2) most = Max(most, ShuffleXor(most, mask));
  const float rescale = PowerOfTwo(max - most);
  float value0 = ValueOf(words[0].w[0]) * rescale, value1 = ValueOf(words[0].w[1]) * rescale;
  float sum = ValueOf(words[1].w[1]) * rescale;
  for (int mask = share.parts / 2; mask > 0; mask /= 2) {
    value0 += ShuffleXor(value0, mask);
    value1 += ShuffleXor(value1, mask);
    sum += ShuffleXor(sum, mask);
  }
  if (thread % share.parts == 0) put(h * kHeadDim + d, Divide(value0, sum), Divide(value1, sum));
}

INLINE void Consume(const ph_args* link, Consumer* consumer) {
  ph_args args = *link;
  args.written_tag = args.tag;
  const Share share = ShareOf((int)args.past);
  NO_UNROLL for (int kv_head = share.kv_head; kv_head < kKvHeads; kv_head += BlockCount()) {
    ConsumeHead(args, consumer, share, kv_head);
  }
}
}  // namespace link2
namespace link3 {

typedef Flagged<bf16> X;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
typedef bf16 W;
typedef Flagged<f32> Out;
constexpr i64 kOutStride = 512;
typedef Flagged<f32> Residual;
constexpr i64 kResidualStride = 512;
constexpr int kX = 0;
constexpr int kWeight0 = 1;
constexpr int kResidual = 2;
constexpr int kOut = 3;
CONSTANT i64 ColumnsOf(int) { return 512; }
constexpr int kRows = 8, kLists = 1;
constexpr i64 kTiles = 64;

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

template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

struct Early {
  VF residual;
};
INLINE Early Before(const ph_args* args, i64 row, int, i64 column, int count) {
  return {LoadDependentRun(Operand<const Residual>(args, kResidual) + row * kResidualStride + column, count)};
}

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early& early) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0) + early.residual, count);
}

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  const i64 column = t * kRows;
  return {0, column, (int)Min(kRows, ColumnsOf(0) - column), 1, column};
}
}  // namespace warp

INLINE const W* RowOf(const ph_args* args, i64 t, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && row >= kRows;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + column * kK;
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const int row = Lane() % kTileRows;
  NO_UNROLL for (i64 t = BlockIndex(); t < kTiles; t += BlockCount()) {
    const W* const from = RowOf(args, t, row);
    UNROLL_BY_4 for (int c = 0; c < (int)(kK / kChunk); ++c) {
      producer->Open(kTileRows * kChunk * 2);
      if (Lane() < kTileRows) producer->Copy(row * kRowPitch, from + c * kChunk, kChunk * 2);
      producer->Close();
    }
  }
}

// What the epilogue of tile t reads besides its sums.
INLINE warp::Early Before(const ph_args* args, i64 t) {
  const warp::Tile tile = warp::TileAt(t);
  return warp::Before(args, 0, tile.part, tile.column, tile.count);
}
// `sum`: of the tile's row that is the lane, in the first lanes.
INLINE void Finish(const ph_args* args, i64 t, float sum, const warp::Early& early) {
  const warp::Tile tile = warp::TileAt(t);
  const float second = kLists == 2 ? ShuffleFrom(sum, (Lane() + kRows) % 32) : 0.0f;
  warp::Finish(args, 0, tile.part, tile.column, tile.count, warp::VF{sum}, warp::VF{second}, early);
}
}  // namespace link3
namespace link4 {

typedef Flagged<f32> X;
typedef bf16 NormW;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
typedef bf16 W;
typedef Flagged<bf16> Out;
constexpr i64 kOutStride = 1024;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kWeight0 = 2;
constexpr int kWeight1 = 3;
constexpr int kOut = 4;
CONSTANT i64 ColumnsOf(int part) { return part == 0 ? 1024 : 1024; }
constexpr int kRows = 4, kLists = 2;
constexpr i64 kTiles = 256;

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

template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
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

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  const i64 column = t * kRows;
  return {0, column, (int)Min(kRows, ColumnsOf(0) - column), 1, column};
}
}  // namespace warp

INLINE const W* RowOf(const ph_args* args, i64 t, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && row >= kRows;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + column * kK;
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const int row = Lane() % kTileRows;
  NO_UNROLL for (i64 t = BlockIndex(); t < kTiles; t += BlockCount()) {
    const W* const from = RowOf(args, t, row);
    UNROLL_BY_4 for (int c = 0; c < (int)(kK / kChunk); ++c) {
      producer->Open(kTileRows * kChunk * 2);
      if (Lane() < kTileRows) producer->Copy(row * kRowPitch, from + c * kChunk, kChunk * 2);
      producer->Close();
    }
  }
}

// What the epilogue of tile t reads besides its sums.
INLINE warp::Early Before(const ph_args* args, i64 t) {
  const warp::Tile tile = warp::TileAt(t);
  return warp::Before(args, 0, tile.part, tile.column, tile.count);
}
// `sum`: of the tile's row that is the lane, in the first lanes.
INLINE void Finish(const ph_args* args, i64 t, float sum, const warp::Early& early) {
  const warp::Tile tile = warp::TileAt(t);
  const float second = kLists == 2 ? ShuffleFrom(sum, (Lane() + kRows) % 32) : 0.0f;
  warp::Finish(args, 0, tile.part, tile.column, tile.count, warp::VF{sum}, warp::VF{second}, early);
}
}  // namespace link4
namespace link5 {

typedef Flagged<bf16> X;
constexpr i64 kK = 1024, kStaged = 1024;
constexpr i64 kXStride = 1024;
typedef bf16 W;
typedef Flagged<f32> Out;
constexpr i64 kOutStride = 512;
typedef Flagged<f32> Residual;
constexpr i64 kResidualStride = 512;
constexpr int kX = 0;
constexpr int kWeight0 = 1;
constexpr int kResidual = 2;
constexpr int kOut = 3;
CONSTANT i64 ColumnsOf(int) { return 512; }
constexpr int kRows = 8, kLists = 1;
constexpr i64 kTiles = 64;

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

template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

struct Early {
  VF residual;
};
INLINE Early Before(const ph_args* args, i64 row, int, i64 column, int count) {
  return {LoadDependentRun(Operand<const Residual>(args, kResidual) + row * kResidualStride + column, count)};
}

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early& early) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0) + early.residual, count);
}

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  const i64 column = t * kRows;
  return {0, column, (int)Min(kRows, ColumnsOf(0) - column), 1, column};
}
}  // namespace warp

INLINE const W* RowOf(const ph_args* args, i64 t, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && row >= kRows;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + column * kK;
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const int row = Lane() % kTileRows;
  NO_UNROLL for (i64 t = BlockIndex(); t < kTiles; t += BlockCount()) {
    const W* const from = RowOf(args, t, row);
    UNROLL_BY_4 for (int c = 0; c < (int)(kK / kChunk); ++c) {
      producer->Open(kTileRows * kChunk * 2);
      if (Lane() < kTileRows) producer->Copy(row * kRowPitch, from + c * kChunk, kChunk * 2);
      producer->Close();
    }
  }
}

// What the epilogue of tile t reads besides its sums.
INLINE warp::Early Before(const ph_args* args, i64 t) {
  const warp::Tile tile = warp::TileAt(t);
  return warp::Before(args, 0, tile.part, tile.column, tile.count);
}
// `sum`: of the tile's row that is the lane, in the first lanes.
INLINE void Finish(const ph_args* args, i64 t, float sum, const warp::Early& early) {
  const warp::Tile tile = warp::TileAt(t);
  const float second = kLists == 2 ? ShuffleFrom(sum, (Lane() + kRows) % 32) : 0.0f;
  warp::Finish(args, 0, tile.part, tile.column, tile.count, warp::VF{sum}, warp::VF{second}, early);
}
}  // namespace link5
namespace link6 {

typedef Flagged<f32> X;
typedef bf16 NormW;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
typedef bf16 W;
typedef f32 Out;
constexpr i64 kOutStride = 384;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kWeight0 = 2;
constexpr int kOut = 3;
CONSTANT i64 ColumnsOf(int) { return 384; }
constexpr int kRows = 8, kLists = 1;
constexpr i64 kTiles = 48;

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

template <class T> INLINE VF LoadRun(const T* p, int count) { return LoadTail(p, count); }
template <class T> INLINE VF LoadDependentRun(FlaggedPointer<T> p, int count) {
  u32 word[1] = {};
  if (Lane() < count) {
    Await<1>(word, p.tag, [&](int) { return LoadDependent4(p.words + Lane()); }, [&](int) { return LookAgain4(p.words + Lane()); });
  }
  SyncWarp();
  return {ValueOf(word[0])};
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) { StoreTail(p, v, count); }
template <class T> INLINE void StoreRun(FlaggedPointer<T> p, VF v, int count) {
  if (Lane() < count) Put(p + Lane(), v.v);
}
INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}

INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }

struct Early {};
INLINE Early Before(const ph_args*, i64, int, i64, int) { return {}; }

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early&) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0), count);
}

struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};

INLINE Tile TileAt(i64 t) {
  const i64 column = t * kRows;
  return {0, column, (int)Min(kRows, ColumnsOf(0) - column), 1, column};
}
}  // namespace warp

INLINE const W* RowOf(const ph_args* args, i64 t, int row) {
  const warp::Tile tile = warp::TileAt(t);
  const bool second = kLists == 2 && row >= kRows;
  const int part = second ? tile.part1 : tile.part;
  const i64 column = (second ? tile.column1 : tile.column) + row % kRows;
  return Operand<const W>(args, kWeight0 + part) + column * kK;
}

INLINE void Produce(const ph_args* args, Producer* producer) {
  const int row = Lane() % kTileRows;
  NO_UNROLL for (i64 t = BlockIndex(); t < kTiles; t += BlockCount()) {
    const W* const from = RowOf(args, t, row);
    UNROLL_BY_4 for (int c = 0; c < (int)(kK / kChunk); ++c) {
      producer->Open(kTileRows * kChunk * 2);
      if (Lane() < kTileRows) producer->Copy(row * kRowPitch, from + c * kChunk, kChunk * 2);
      producer->Close();
    }
  }
}

// What the epilogue of tile t reads besides its sums.
INLINE warp::Early Before(const ph_args* args, i64 t) {
  const warp::Tile tile = warp::TileAt(t);
  return warp::Before(args, 0, tile.part, tile.column, tile.count);
}
// `sum`: of the tile's row that is the lane, in the first lanes.
INLINE void Finish(const ph_args* args, i64 t, float sum, const warp::Early& early) {
  const warp::Tile tile = warp::TileAt(t);
  const float second = kLists == 2 ? ShuffleFrom(sum, (Lane() + kRows) % 32) : 0.0f;
  warp::Finish(args, 0, tile.part, tile.column, tile.count, warp::VF{sum}, warp::VF{second}, early);
}
}  // namespace link6
namespace x0 {

typedef Flagged<f32> X;
typedef bf16 NormW;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
constexpr int kX = 0;
constexpr int kNorm = 1;
constexpr int kXAt = 95744, kWindowMeanwhile = 2;

namespace team {
constexpr int kThreads = 256, LANES = kThreads * 4;
INLINE float* Scratch() { return (float*)(SharedMemory() + 109568); }
INLINE int First() { return ThreadIndex() * 4; }
INLINE void SyncTeam() { SyncConsumers(); }

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

template <class T> INLINE void LoadDependentRow(FlaggedPointer<T> row, VF* vectors) {
  Words4 words[kVectors];
  // Threads behind the row's end look at its last words.
  const auto at = [&](int v) { return row.words + Min((i64)v * LANES + First(), (i64)kK - 4); };
  Await<kVectors>(words, row.tag, [&](int v) { return LoadDependent16(at(v)); }, [&](int v) { return LookAgain16(at(v)); });
  UNROLL for (int v = 0; v < kVectors; ++v) {
    const bool there = v * LANES + First() < kK;
    UNROLL for (int i = 0; i < 4; ++i) vectors[v].v[i] = there ? ValueOf(words[v].w[i]) : 0.0f;
  }
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

// The multiplicands, when all of the block's consumers have them; `ask` asks for what else can be before they are there.
template <class Ask> INLINE Element* StageX(const ph_args* args, Ask ask) {
  Element* const x = (Element*)(SharedMemory() + kXAt);
  const team::Before before = team::StageBefore(args);
  ask();
  if (ThreadIndex() == 0) *Window() = kWindowMeanwhile;
  team::StageRow(args, 0, x, before);
  if (ThreadIndex() == 0) *Window() = kWindow;
  SyncConsumers();
  return x;
}
}  // namespace x0
namespace x1 {

typedef Flagged<bf16> X;
constexpr i64 kK = 512, kStaged = 1024;
constexpr i64 kXStride = 512;
constexpr int kX = 0;
constexpr int kXAt = 97792, kWindowMeanwhile = 3;

namespace team {
constexpr int kThreads = 256, LANES = kThreads * 4;
INLINE float* Scratch() { return (float*)(SharedMemory() + 109568); }
INLINE int First() { return ThreadIndex() * 4; }
INLINE void SyncTeam() { SyncConsumers(); }

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

template <class T> INLINE void LoadDependentRow(FlaggedPointer<T> row, VF* vectors) {
  Words4 words[kVectors];
  // Threads behind the row's end look at its last words.
  const auto at = [&](int v) { return row.words + Min((i64)v * LANES + First(), (i64)kK - 4); };
  Await<kVectors>(words, row.tag, [&](int v) { return LoadDependent16(at(v)); }, [&](int v) { return LookAgain16(at(v)); });
  UNROLL for (int v = 0; v < kVectors; ++v) {
    const bool there = v * LANES + First() < kK;
    UNROLL for (int i = 0; i < 4; ++i) vectors[v].v[i] = there ? ValueOf(words[v].w[i]) : 0.0f;
  }
}

struct Before {};
INLINE Before StageBefore(const ph_args*) { return {}; }
INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before&) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v]);
}
}  // namespace team

// The multiplicands, when all of the block's consumers have them; `ask` asks for what else can be before they are there.
template <class Ask> INLINE Element* StageX(const ph_args* args, Ask ask) {
  Element* const x = (Element*)(SharedMemory() + kXAt);
  const team::Before before = team::StageBefore(args);
  ask();
  if (ThreadIndex() == 0) *Window() = kWindowMeanwhile;
  team::StageRow(args, 0, x, before);
  if (ThreadIndex() == 0) *Window() = kWindow;
  SyncConsumers();
  return x;
}
}  // namespace x1
namespace x2 {

typedef Flagged<bf16> X;
constexpr i64 kK = 1024, kStaged = 1024;
constexpr i64 kXStride = 1024;
constexpr int kX = 0;
constexpr int kXAt = 97792, kWindowMeanwhile = 3;

namespace team {
constexpr int kThreads = 256, LANES = kThreads * 4;
INLINE float* Scratch() { return (float*)(SharedMemory() + 109568); }
INLINE int First() { return ThreadIndex() * 4; }
INLINE void SyncTeam() { SyncConsumers(); }

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

template <class T> INLINE void LoadDependentRow(FlaggedPointer<T> row, VF* vectors) {
  Words4 words[kVectors];
  // Threads behind the row's end look at its last words.
  const auto at = [&](int v) { return row.words + Min((i64)v * LANES + First(), (i64)kK - 4); };
  Await<kVectors>(words, row.tag, [&](int v) { return LoadDependent16(at(v)); }, [&](int v) { return LookAgain16(at(v)); });
  UNROLL for (int v = 0; v < kVectors; ++v) {
    const bool there = v * LANES + First() < kK;
    UNROLL for (int i = 0; i < 4; ++i) vectors[v].v[i] = there ? ValueOf(words[v].w[i]) : 0.0f;
  }
}

struct Before {};
INLINE Before StageBefore(const ph_args*) { return {}; }
INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before&) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v]);
}
}  // namespace team

// The multiplicands, when all of the block's consumers have them; `ask` asks for what else can be before they are there.
template <class Ask> INLINE Element* StageX(const ph_args* args, Ask ask) {
  Element* const x = (Element*)(SharedMemory() + kXAt);
  const team::Before before = team::StageBefore(args);
  ask();
  if (ThreadIndex() == 0) *Window() = kWindowMeanwhile;
  team::StageRow(args, 0, x, before);
  if (ThreadIndex() == 0) *Window() = kWindow;
  SyncConsumers();
  return x;
}
}  // namespace x2
namespace sums512 {
constexpr int kK = 512;
union Early {
  link1::warp::Early of1;
  link3::warp::Early of3;
  link4::warp::Early of4;
  link6::warp::Early of6;
};
INLINE i64 TilesOf(int kind) {
  switch (kind) {
    case 1: return link1::kTiles; break;
    case 3: return link3::kTiles; break;
    case 4: return link4::kTiles; break;
    default: return link6::kTiles; break;
  }
}
template <class Ask> INLINE Element* StageX(int kind, const ph_args* args, Ask ask) {
  switch (kind) {
    case 1: case 4: case 6: return x0::StageX(args, ask); break;
    default: return x1::StageX(args, ask); break;
  }
}
INLINE void AskFor(int kind, const ph_args* args, i64 t, Early* early) {
  switch (kind) {
    case 1: early->of1 = link1::Before(args, t); break;
    case 3: early->of3 = link3::Before(args, t); break;
    case 4: early->of4 = link4::Before(args, t); break;
    default: early->of6 = link6::Before(args, t); break;
  }
}
// Then asks for what tile `next` needs, where there is one.
INLINE void FinishAndAsk(int kind, const ph_args* args, i64 t, float sum, i64 next, Early* early) {
  switch (kind) {
    case 1: link1::Finish(args, t, sum, early->of1); if (next < link1::kTiles) early->of1 = link1::Before(args, next); break;
    case 3: link3::Finish(args, t, sum, early->of3); if (next < link3::kTiles) early->of3 = link3::Before(args, next); break;
    case 4: link4::Finish(args, t, sum, early->of4); if (next < link4::kTiles) early->of4 = link4::Before(args, next); break;
    default: link6::Finish(args, t, sum, early->of6); if (next < link6::kTiles) early->of6 = link6::Before(args, next); break;
  }
}

constexpr int kChunks = kK / kChunk, kSlice = kChunk / kWarps, kSteps = kSlice / 64;
constexpr int kPieces = kChunks * kSteps;             // of a lane: pairs of 16 bytes of a row
constexpr bool kInRegisters = kPieces <= 8 && kChunks <= kStages;  // of x; a tile's stages are held until all are read
static_assert(kChunks * kChunk == kK && kSteps * 64 == kSlice);

INLINE void Multiply(float* sums, const Words4& first, const Words4& second, const Words4& x) {
  UNROLL for (int half = 0; half < 2; ++half) {
    const u32 a[4] = {first.w[2 * half], second.w[2 * half], first.w[2 * half + 1], second.w[2 * half + 1]};
    MultiplyBf16(sums + 4 * half, a, x.w + 2 * half);
  }
}

INLINE void Consume(int kind, const ph_args* link, Consumer* consumer) {
  ph_args args = *link;
  args.written_tag = (args.tag + (kind == kLastOfLayers ? 1 : 0)) & kTagMask;  // the next round reads what the last writes
  const int lane = Lane(), row = lane / 4, warp_index = consumer->warp;
  const i64 tiles = TilesOf(kind);

  // The warp's first tile to finish, and what its epilogue reads besides the sums.
  i64 mine = BlockIndex() + (i64)((warp_index - consumer->tiles % kWarps + kWarps) % kWarps) * BlockCount();
  Early early{};
  const auto ask = [&]() {
    if (mine < tiles) AskFor(kind, &args, mine, &early);
  };
  const Element* const x_lane = StageX(kind, &args, ask) + warp_index * kSlice + row % 2 * 32 + lane % 4 * 8;
  Words4 pieces[kInRegisters ? kPieces : 1];
  if constexpr (kInRegisters) {
    UNROLL for (int i = 0; i < kPieces; ++i) pieces[i] = *(const Words4*)(x_lane + i / kSteps * kChunk + i % kSteps * 64);
  }
  float* const parts = (float*)(SharedMemory() + kSumsAt);  // [kMeetings][kWarps][kTileRows]
  const int at = row * kRowPitch + (warp_index * kSlice + lane % 4 * 8) * 2;
  NO_UNROLL for (i64 t = BlockIndex(); t < tiles; t += BlockCount()) {
    float sums[8] = {};
    if constexpr (kInRegisters) {
      Words4 weights[kPieces][2];
      const int first_stage = consumer->place.stage;
      UNROLL for (int c = 0; c < kChunks; ++c) {
        WaitStage(Full(consumer->place.stage), consumer->place.turn);
        const u8* const stage = Stage(consumer->place.stage) + at;
        UNROLL for (int i = 0; i < kSteps; ++i) {
          weights[c * kSteps + i][0] = *(const Words4*)(stage + i * 128);
          weights[c * kSteps + i][1] = *(const Words4*)(stage + i * 128 + 64);
        }
        consumer->place.Next();
      }
      UNROLL for (int i = 0; i < kPieces; ++i) Multiply(sums, weights[i][0], weights[i][1], pieces[i]);
      SyncWarp();
      if (lane < kChunks) Arrive(Empty((first_stage + lane) % kStages));
    } else {
      NO_UNROLL for (int c = 0; c < kChunks; ++c) {
        WaitStage(Full(consumer->place.stage), consumer->place.turn);
        const u8* const stage = Stage(consumer->place.stage) + at;
        UNROLL for (int i = 0; i < kSteps; ++i) {
          const Words4 first = *(const Words4*)(stage + i * 128), second = *(const Words4*)(stage + i * 128 + 64);
          Multiply(sums, first, second, *(const Words4*)(x_lane + c * kChunk + i * 64));
        }
        SyncWarp();
        if (lane == 0) Arrive(Empty(consumer->place.stage));
        consumer->place.Next();
      }
    }
    const int meeting = consumer->tiles % kMeetings, finisher = consumer->tiles % kWarps;
    if (++consumer->tiles == kMeetings * kWarps) consumer->tiles = 0;
    float* const part = parts + meeting * kWarps * kTileRows;
    if (lane % 4 == 0) part[warp_index * kTileRows + row] = (sums[0] + sums[3]) + (sums[4] + sums[7]);
    if (warp_index != finisher) {
      ArriveNamed(2 + meeting, kWarps * 32);
      continue;
    }
    SyncNamed(2 + meeting, kWarps * 32);
    float sum = part[lane / 8 * 2 * kTileRows + lane % 8] + part[(lane / 8 * 2 + 1) * kTileRows + lane % 8];
    sum += ShuffleXor(sum, 8);
    sum += ShuffleXor(sum, 16);
    mine += (i64)kWarps * BlockCount();
    FinishAndAsk(kind, &args, t, sum, mine, &early);
  }
}
}  // namespace sums512
namespace sums1024 {
constexpr int kK = 1024;
union Early {
  link5::warp::Early of5;
};
INLINE i64 TilesOf(int kind) {
  switch (kind) {
    default: return link5::kTiles; break;
  }
}
template <class Ask> INLINE Element* StageX(int kind, const ph_args* args, Ask ask) {
  switch (kind) {
    default: return x2::StageX(args, ask); break;
  }
}
INLINE void AskFor(int kind, const ph_args* args, i64 t, Early* early) {
  switch (kind) {
    default: early->of5 = link5::Before(args, t); break;
  }
}
// Then asks for what tile `next` needs, where there is one.
INLINE void FinishAndAsk(int kind, const ph_args* args, i64 t, float sum, i64 next, Early* early) {
  switch (kind) {
    default: link5::Finish(args, t, sum, early->of5); if (next < link5::kTiles) early->of5 = link5::Before(args, next); break;
  }
}

constexpr int kChunks = kK / kChunk, kSlice = kChunk / kWarps, kSteps = kSlice / 64;
constexpr int kPieces = kChunks * kSteps;             // of a lane: pairs of 16 bytes of a row
constexpr bool kInRegisters = kPieces <= 8 && kChunks <= kStages;  // of x; a tile's stages are held until all are read
static_assert(kChunks * kChunk == kK && kSteps * 64 == kSlice);

INLINE void Multiply(float* sums, const Words4& first, const Words4& second, const Words4& x) {
  UNROLL for (int half = 0; half < 2; ++half) {
    const u32 a[4] = {first.w[2 * half], second.w[2 * half], first.w[2 * half + 1], second.w[2 * half + 1]};
    MultiplyBf16(sums + 4 * half, a, x.w + 2 * half);
  }
}

INLINE void Consume(int kind, const ph_args* link, Consumer* consumer) {
  ph_args args = *link;
  args.written_tag = (args.tag + (kind == kLastOfLayers ? 1 : 0)) & kTagMask;  // the next round reads what the last writes
  const int lane = Lane(), row = lane / 4, warp_index = consumer->warp;
  const i64 tiles = TilesOf(kind);

  // The warp's first tile to finish, and what its epilogue reads besides the sums.
  i64 mine = BlockIndex() + (i64)((warp_index - consumer->tiles % kWarps + kWarps) % kWarps) * BlockCount();
  Early early{};
  const auto ask = [&]() {
    if (mine < tiles) AskFor(kind, &args, mine, &early);
  };
  const Element* const x_lane = StageX(kind, &args, ask) + warp_index * kSlice + row % 2 * 32 + lane % 4 * 8;
  Words4 pieces[kInRegisters ? kPieces : 1];
  if constexpr (kInRegisters) {
    UNROLL for (int i = 0; i < kPieces; ++i) pieces[i] = *(const Words4*)(x_lane + i / kSteps * kChunk + i % kSteps * 64);
  }
  float* const parts = (float*)(SharedMemory() + kSumsAt);  // [kMeetings][kWarps][kTileRows]
  const int at = row * kRowPitch + (warp_index * kSlice + lane % 4 * 8) * 2;
  NO_UNROLL for (i64 t = BlockIndex(); t < tiles; t += BlockCount()) {
    float sums[8] = {};
    if constexpr (kInRegisters) {
      Words4 weights[kPieces][2];
      const int first_stage = consumer->place.stage;
      UNROLL for (int c = 0; c < kChunks; ++c) {
        WaitStage(Full(consumer->place.stage), consumer->place.turn);
        const u8* const stage = Stage(consumer->place.stage) + at;
        UNROLL for (int i = 0; i < kSteps; ++i) {
          weights[c * kSteps + i][0] = *(const Words4*)(stage + i * 128);
          weights[c * kSteps + i][1] = *(const Words4*)(stage + i * 128 + 64);
        }
        consumer->place.Next();
      }
      UNROLL for (int i = 0; i < kPieces; ++i) Multiply(sums, weights[i][0], weights[i][1], pieces[i]);
      SyncWarp();
      if (lane < kChunks) Arrive(Empty((first_stage + lane) % kStages));
    } else {
      NO_UNROLL for (int c = 0; c < kChunks; ++c) {
        WaitStage(Full(consumer->place.stage), consumer->place.turn);
        const u8* const stage = Stage(consumer->place.stage) + at;
        UNROLL for (int i = 0; i < kSteps; ++i) {
          const Words4 first = *(const Words4*)(stage + i * 128), second = *(const Words4*)(stage + i * 128 + 64);
          Multiply(sums, first, second, *(const Words4*)(x_lane + c * kChunk + i * 64));
        }
        SyncWarp();
        if (lane == 0) Arrive(Empty(consumer->place.stage));
        consumer->place.Next();
      }
    }
    const int meeting = consumer->tiles % kMeetings, finisher = consumer->tiles % kWarps;
    if (++consumer->tiles == kMeetings * kWarps) consumer->tiles = 0;
    float* const part = parts + meeting * kWarps * kTileRows;
    if (lane % 4 == 0) part[warp_index * kTileRows + row] = (sums[0] + sums[3]) + (sums[4] + sums[7]);
    if (warp_index != finisher) {
      ArriveNamed(2 + meeting, kWarps * 32);
      continue;
    }
    SyncNamed(2 + meeting, kWarps * 32);
    float sum = part[lane / 8 * 2 * kTileRows + lane % 8] + part[(lane / 8 * 2 + 1) * kTileRows + lane % 8];
    sum += ShuffleXor(sum, 8);
    sum += ShuffleXor(sum, 16);
    mine += (i64)kWarps * BlockCount();
    FinishAndAsk(kind, &args, t, sum, mine, &early);
  }
}
}  // namespace sums1024

KERNEL(step, (kWarps + 1) * 32, 1, ph_gpu_args) {
  const int warp = WarpIndex();
  if (ThreadIndex() == 0) {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(Full(i), 1);
      InitBarrier(Empty(i), kWarps);
    }
    FenceBarriers();
    *Window() = kWindow;
  }
  SyncBlock();
  LaunchDependents();
  Links links(params, warp);
  ph_args args = {0, 1, 0, params.capacity, 0, 0};
  if (warp == kWarps) {
    Producer producer;
    bool started = false;
    NO_UNROLL for (int i = 0; i < params.tiles; ++i) {
      const ph_link& link = links.Next();
      args.operands = link.operands;
      const int kind = (int)ShuffleFrom((u32)link.kind, 0);
      if (!started && kind == kAttention) {  // what it streams depends on the step
        WaitDependencies();
        args.past = LoadEarlierI64(&params.state->past);
        started = true;
      }
      switch (kind) {
        case 0: link0::Produce(&args, &producer); break;
        case 1: link1::Produce(&args, &producer); break;
        case 2: link2::Produce(&args, &producer); break;
        case 3: link3::Produce(&args, &producer); break;
        case 4: link4::Produce(&args, &producer); break;
        case 5: link5::Produce(&args, &producer); break;
        case 6: link6::Produce(&args, &producer); break;
      }
    }
    return;
  }
  WaitDependencies();
  args.past = LoadEarlierI64(&params.state->past);
  Consumer consumer = {warp};
  NO_UNROLL for (int i = 0; i < params.tiles; ++i) {
    const ph_link& link = links.Next();
    args.operands = link.operands;
    const int kind = (int)ShuffleFrom((u32)link.kind, 0);
    args.tag = (consumer.tag + (kind > kLastOfLayers ? kRounds - 1 : (u32)link.round)) & kTagMask;
    switch (kind) {
      case 0: link0::Consume(&args, &consumer); break;
      case 2: link2::Consume(&args, &consumer); break;
      case 1: case 3: case 4: case 6: sums512::Consume(kind, &args, &consumer); break;
      case 5: sums1024::Consume(kind, &args, &consumer); break;
    }
  }
  if (BlockIndex() == 0 && ThreadIndex() == 0) {
    const u32 has_parts = link2::ShareOf((int)args.past).parts > 1 ? 1 : 0;
    StoreRelaxed8(consumer.epoch, {{consumer.epochs.w[0] + 1, consumer.epochs.w[1] + has_parts}});
  }
}
