// How the columns of a product of one row are cut into tiles: the text, shared by the dialects, and their
// number.
#include "codegen/matmul_text.h"

namespace preheat::codegen::matmul {
namespace {

// part1, column1: the second list's first column, where there is one.
constexpr char kTile[] = R"text(
struct Tile {
  int part;
  i64 column;
  int count;
  int part1;
  i64 column1;
};
)text";

constexpr char kTileOfColumns[] = R"text(
INLINE Tile TileAt(i64 t) {
  const i64 column = t * kRows;
  return {0, column, (int)Min(kRows, ColumnsOf(0) - column), 1, column};
}
)text";

// Columns d .. and d + half .. of one head.
constexpr char kTileOfHeads[] = R"text(
INLINE Tile TileAt(i64 t) {
  constexpr i64 kTilesPerHead = kHalf / kRows;
  i64 head = t / kTilesPerHead;
  int part = 0;
  for (; part < 2 && head >= ColumnsOf(part) / kHeadDim; ++part) head -= ColumnsOf(part) / kHeadDim;
  const i64 column = head * kHeadDim + t % kTilesPerHead * kRows;
  return {part, column, kRows, part, column + kHalf};
}
)text";

}  // namespace

std::string ColumnTileText(const Spec& spec) {
  return std::string(kTile) + (spec.epilogue == Epilogue::kRotaryAppend ? kTileOfHeads : kTileOfColumns);
}

int64_t ColumnTiles(const Spec& spec, int64_t rows) {
  if (spec.epilogue != Epilogue::kRotaryAppend) return (spec.parts[0].columns + rows - 1) / rows;
  int64_t columns = 0;
  for (const Part& part : spec.parts) columns += part.columns;
  return columns / (2 * rows);
}

}  // namespace preheat::codegen::matmul
