// The text of the panel kernel: packing, the micro-kernel, the loops of a tile.
#pragma once

namespace preheat::codegen::matmul {

// Names the constants kMr, kNr, kPanels, kKc, kRowBlock, kAStride, kTileUnits, kPrefetch, operand kA, and
// the functions Finish, TileAt, ColumnOf, FinishRow.
extern const char kPanelBody[];

// FinishRow for the epilogues: one row of a tile's sums.
extern const char kFinishRowOfColumns[];
extern const char kFinishRowOfLists[];
extern const char kFinishRowOfHeads[];

}  // namespace preheat::codegen::matmul
