#include "codegen/cuda/persistent_body.h"

namespace preheat::codegen::cuda::persistent {

const char kStageX[] = R"text(
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
)text";

// Weights come by a text of each link's own, four chunks of a tile in a row: by one that links share a token
// takes 1% more, and by a loop of two chunks 2.5%. All chunks in a row take as long as four, and 0.1 s more
// to compile.
const char kProductLink[] = R"text(
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
)text";

// A tile is eight rows of weights, kRows of each list; block b has tiles b, b + blocks, ... The sum over kK
// is split over the warps, each with its slice of every chunk. Tensor cores multiply eight rows and two
// pieces of x at once: rows 0 to 7 of the left factor are the rows' first piece, rows 8 to 15 their second,
// columns 0 and 1 of the right factor those of x; the sums wanted stand at (r, 0) and (r + 8, 1).
const char kSums[] = R"text(
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
)text";

}  // namespace preheat::codegen::cuda::persistent
