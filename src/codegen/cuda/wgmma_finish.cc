// From a block's sums to the epilogue: the texts.
#include "codegen/cuda/wgmma_body.h"

namespace preheat::codegen::cuda {

// Sixteen neighbouring columns of a row over four lanes: lane i of the four has columns 2 i, 2 i + 1, 8 + 2
// i, 9 + 2 i, as sums lie in registers. All lanes of a warp run the words, also those whose row has no
// columns (count 0).
const char kFragmentWords[] = R"text(
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
)text";

const char kWgmmaFinishFragments[] = R"text(
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
)text";

const char kWgmmaKeepsResult[] = R"text(
// Finishes four columns, whose sums have come from `at`.
INLINE void FinishQuad(const Job& job, int row, const Columns& columns, quad::VF y0, quad::VF y1, const quad::Early& early, u8*) {
  if (row < job.rows && columns.there) quad::Finish(&job.args, row, columns.part, columns.column, 4, y0, y1, early);
}
template <int kPerRow> INLINE void FinishUnit(const Job&, const Unit&) {}
)text";

const char kWgmmaHandsOn[] = R"text(
// Finishes four columns, whose sums have come from `at`, and leaves the sum of their squares there.
INLINE void FinishQuad(const Job& job, int row, const Columns& columns, quad::VF y0, quad::VF y1, const quad::Early& early, u8* at) {
  float squares = 0;
  if (row < job.rows && columns.there) {
    const quad::VF each = quad::Finish(&job.args, row, columns.part, columns.column, 4, y0, y1, early);
    squares = each.v[0] + each.v[1] + each.v[2] + each.v[3];
  }
  *(float*)at = squares;
}
// The sums of the unit's rows, of this tile's columns.
template <int kPerRow> INLINE void FinishUnit(const Job& job, const Unit& unit) {
  SyncWarp();
  f32* const to = Operand<f32>(&job.args, kSquares) + (unit.column_tile * kSplit + job.split) * HandedStride(job.rows);
  UNROLL for (int m = 0; m < kRowBlocks; ++m) {
    const u8* const from = unit.stage + (m * 16 + Lane() / 2) * kPitch;
    float sum = 0;
    UNROLL for (int i = 0; i < kPerRow; i += 2) sum += *(const float*)(from + (i + Lane() % 2) * 16);
    sum += ShuffleXor(sum, 1);
    const int row = unit.row + m * 64 + Lane() / 2;
    if (Lane() % 2 == 0 && row < job.rows) Put(to + row, sum);
  }
}
)text";

const char kWgmmaFinishRows[] = R"text(
// A warp's sums of some items into its own memory, row by row.
template <int kFrom, int kTo> INLINE void Stage(Sums& sums, const Unit& unit) {
  u8* const to = unit.stage + Lane() / 4 * kPitch + Lane() % 4 * 8;
  UNROLL for (int m = 0; m < kRowBlocks; ++m) {
    UNROLL for (int item = kFrom; item < kTo; ++item) {
      UNROLL for (int b = 0; b < kItemBlocks; ++b) {
        UNROLL for (int h = 0; h < 2; ++h) {
          const float* const two = sums[m] + 4 * BlockOf(item, b) + 2 * h;
          *(Words2*)(to + (m * 16 + 8 * h) * kPitch + ((item - kFrom) * kItemBlocks + b) * 32) = {{BitsOf(two[0]), BitsOf(two[1])}};
        }
      }
    }
  }
  SyncWarp();
}

template <int kSlice> INLINE void StageOwn(const Job& job, Sums& sums, const Unit& unit) {
  if constexpr (kSlice < kSplit) {
    if (job.split != kSlice) return StageOwn<kSlice + 1>(job, sums, unit);
    Stage<SliceOf(kSlice), SliceOf(kSlice + 1)>(sums, unit);
  }
}

// Finishes the items from `first` on, kMost or those before `end`, of all the unit's rows, along rows: four columns of a
// list a lane. The sums lie so that a lane has two columns of a row: straight from there, an access would touch eight
// lines for 256 bytes. ready() returns when the sums are complete, stage() when they are staged. What the epilogue reads
// beside them is asked for a batch ahead, of the first what sums leave registers for before ready(), and the rest
// before stage(); of slices, which is whose is not known, so that all sums take registers until then. A loop of little
// code where there is much to do: it runs once a launch, from a cold cache, and instructions come slower than data.
template <int kMost, class Ready, class Stage>
INLINE void FinishStaged(const Job& job, const Unit& unit, const Scales& scales, int first, int end, Ready ready, Stage stage) {
  constexpr int kQuads = kItemBlocks * 2 / kLists;  // of an item's row
  constexpr int kPerRow = kMost * kQuads;
  constexpr int kRounds = kPerRow / 2, kAll = kRowBlocks * kRounds;  // of a warp: 16 rows, a quad a lane
  constexpr int kEarly = (int)sizeof(quad::Early) >= 16 ? (int)sizeof(quad::Early) / 4 : 1;  // nothing, or vectors
  constexpr int kBatch = kAll <= 12 ? kAll : 4;
  constexpr int kFree = 144 - kRowBlocks * kTileColumns / 2;  // registers beside sums
  constexpr int kSoon = kFree < 56 ? 0 : kFree / kEarly < kBatch ? kFree / kEarly : kBatch;
  constexpr int kOthers = kFree - 16 < kSoon * kEarly ? 0 : (kFree - 16) / kEarly - kSoon;
  constexpr int kBesideSums = kSplit == 1 || kSoon + kOthers > kBatch ? kBatch : kSoon + kOthers;
  quad::Early early[kBatch];
  const auto row_in_unit = [](int n) { return kQuads == 4 ? n % kRounds % 2 * 8 + Lane() / 4 : (n % kRounds * 32 + Lane()) / kPerRow; };
  const auto in_row = [](int n) { return kQuads == 4 ? n % kRounds / 2 * 4 + Lane() % 4 : (n % kRounds * 32 + Lane()) % kPerRow; };
  const auto row_of = [&](int n) { return unit.row + n / kRounds * 64 + row_in_unit(n); };
  const auto columns_of = [&](int n) {
    const int item = first + in_row(n) / kQuads;
    Columns columns = ColumnsAt(unit.column_tile, item, in_row(n) % kQuads);
    if constexpr (kMost * kSplit != kItems) columns.there = columns.there && item < end;
    return columns;
  };
  const auto ask = [&](int n, quad::Early* one) {
    const Columns columns = columns_of(n);
    *one = {};
    if (n < kAll && row_of(n) < job.rows && columns.there) {
      *one = quad::Before(&job.args, row_of(n), columns.part, columns.column, 4);
    }
  };
  UNROLL for (int i = 0; i < kSoon; ++i) ask(i, early + i);
  ready();
  UNROLL for (int i = kSoon; i < kBesideSums; ++i) ask(i, early + i);
  stage();
  UNROLL for (int i = kBesideSums; i < kBatch; ++i) ask(i, early + i);
  NO_UNROLL for (int begin = 0; begin < kAll; begin += kBatch) {
    quad::Early now[kBatch];
    UNROLL for (int i = 0; i < kBatch; ++i) now[i] = early[i];
    if (begin + kBatch < kAll) {
      UNROLL for (int i = 0; i < kBatch; ++i) ask(begin + kBatch + i, early + i);
    }
    UNROLL for (int i = 0; i < kBatch; ++i) {
      const int n = begin + i;
      if (kAll % kBatch != 0 && n >= kAll) continue;
      u8* const at = unit.stage + (n / kRounds * 16 + row_in_unit(n)) * kPitch + in_row(n) / kQuads * (kItemBlocks * 32) +
                     in_row(n) % kQuads * 16;
      quad::VF y0, y1 = {};
      Unpack(*(const Words4*)at, (const f32*)0, y0.v);
      if constexpr (kLists == 2) Unpack(*(const Words4*)(at + 64), (const f32*)0, y1.v);
      y0 = scales.Scaled(y0, n / kRounds, row_in_unit(n));
      if constexpr (kLists == 2) y1 = scales.Scaled(y1, n / kRounds, row_in_unit(n));
      FinishQuad(job, row_of(n), columns_of(n), y0, y1, now[i], at);
    }
  }
  FinishUnit<kPerRow>(job, unit);
}
template <class Ready> INLINE void FinishTile(const Job& job, Sums& sums, const Unit& unit, const Scales& scales, Ready ready) {
  FinishStaged<kItems>(job, unit, scales, 0, kItems, ready, [&] { Stage<0, kItems>(sums, unit); });
}
template <class Ready> INLINE void FinishSlice(const Job& job, Sums& sums, const Unit& unit, const Scales& scales, Ready ready) {
  FinishStaged<kMostItems>(job, unit, scales, SliceOf(job.split), SliceOf(job.split + 1), ready, [&] { StageOwn<0>(job, sums, unit); });
}
)text";

const char kWgmmaSlices[] = R"text(
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
)text";

}  // namespace preheat::codegen::cuda
