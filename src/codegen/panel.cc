#include "codegen/panel.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/matmul_text.h"
#include "codegen/panel_body.h"

namespace preheat::codegen::matmul {
namespace {

// Columns of a tile are neighbours in one part.
constexpr char kTileOfColumns[] = R"text(
INLINE Tile TileAt(i64 t) {
  const i64 column = t * kPanels * kNr;
  return {0, column, Min(kPanels * kNr, ColumnsOf(0) - column)};
}
INLINE const W* WeightRow(const ph_args* args, const Tile& tile, int panel, int c) {
  return Operand<const W>(args, kWeight0) + (tile.column + Min(panel * kNr + c, tile.count - 1)) * kK;
}
)text";

// Panel p holds the tile's columns of part p.
constexpr char kTileOfLists[] = R"text(
INLINE Tile TileAt(i64 t) {
  const i64 column = t * kNr;
  return {0, column, Min(kNr, ColumnsOf(0) - column)};
}
INLINE const W* WeightRow(const ph_args* args, const Tile& tile, int panel, int c) {
  return Operand<const W>(args, kWeight0 + panel) + (tile.column + Min(c, tile.count - 1)) * kK;
}
)text";

// The columns of kTileHeads heads of one part.
constexpr char kTileOfHeads[] = R"text(
constexpr i64 TilesOf(int part) { return (ColumnsOf(part) / kHeadDim + kTileHeads - 1) / kTileHeads; }
INLINE Tile TileAt(i64 t) {
  int part = 0;
  for (; part < 2 && t >= TilesOf(part); ++part) t -= TilesOf(part);
  const i64 column = t * kTileHeads * kHeadDim;
  return {part, column, Min(kTileHeads * kHeadDim, ColumnsOf(part) - column)};
}
INLINE const W* WeightRow(const ph_args* args, const Tile& tile, int panel, int c) {
  const i64 column = tile.column + Min(panel * kNr + c, tile.count - 1);
  return Operand<const W>(args, kWeight0 + tile.part) + column * kK;
}
)text";

constexpr char kTile[] = R"text(
struct Tile {
  int part;
  i64 column;  // the first of the part's columns
  i64 count;   // columns; panels repeat the last one behind them
};
)text";

constexpr char kStageRows[] = R"text(
ENTRY void matmul_stage_rows(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  for (i64 row = tile_begin * kStageBlock; row < Min(tile_end * kStageBlock, args->rows); ++row) {
    StageRow(args, row, Operand<Element>(args, kStagedRows) + row * kStagedStride);
  }
}
)text";

constexpr int64_t kStageBlock = 4;  // rows staged at a time

int64_t RoundUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// How a region's columns are divided into tiles.
struct Division {
  int64_t panels = 1;      // panels of nr columns in a tile
  int64_t tile_heads = 0;  // rotary_append: heads in a tile
  int64_t tiles = 0;       // for each block of rows
};

Division Divide(const Spec& spec, const Schedule& schedule) {
  const int64_t nr = schedule.at("nr");
  Division division;
  switch (spec.epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      division.panels = schedule.at("panels");
      division.tiles = (spec.parts[0].columns + division.panels * nr - 1) / (division.panels * nr);
      break;
    case Epilogue::kSiluMul:
      division.panels = 2;
      division.tiles = (spec.parts[0].columns + nr - 1) / nr;
      break;
    case Epilogue::kRotaryAppend:
      division.tile_heads = std::max<int64_t>(1, nr * schedule.at("panels") / spec.head_dim);
      division.panels = RoundUp(division.tile_heads * spec.head_dim, nr) / nr;
      for (const Part& part : spec.parts) {
        const int64_t heads = part.columns / spec.head_dim;
        division.tiles += (heads + division.tile_heads - 1) / division.tile_heads;
      }
      break;
  }
  return division;
}

std::string TileText(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      return std::string(kTileOfColumns) + kFinishRowOfColumns;
    case Epilogue::kSiluMul:
      return std::string(kTileOfLists) + kFinishRowOfLists;
    case Epilogue::kRotaryAppend:
      return std::string(kTileOfHeads) + kFinishRowOfHeads;
  }
  return "";
}

int64_t ScratchBytes(const Spec& spec, const Target& target, const Schedule& schedule, int64_t panels) {
  const int64_t lanes = target.vector_bytes / 4;
  const int64_t vector = lanes * ElementsPerUnit(UnitFor(spec.weight_dtype, spec.math, target));
  const int64_t kc = schedule.at("kc"), nr = schedule.at("nr"), mr = schedule.at("mr");
  const int64_t panel_units = (kc + vector - 1) / vector * lanes * nr;
  // Sums of one micro-tile, or of all rows of a block where k comes in several parts; and room behind them,
  // since the epilogue loads whole vectors.
  const int64_t rows = spec.k <= kc ? mr : RoundUp(schedule.at("row_block"), mr);
  return 4 * (panels * panel_units + rows * panels * nr + lanes);
}

Schedule MakeSchedule(const Spec& spec, int64_t mr, int64_t nr, int64_t kc) {
  // Both halves of a rotary pair are in one tile anyway, gate and up likewise.
  return {{"family", 1}, {"mr", mr},         {"nr", nr},     {"kc", std::min(kc, RoundUp(spec.k, 64))},
          {"panels", 1}, {"row_block", 512}, {"prefetch", 1}};
}

// The launch that stages all rows into the region's first workspace; its text.
std::string AddStageLaunch(const Spec& spec, int64_t stride, RegionCode* code) {
  OperandList operands;
  AddStageOperands(spec, &operands);
  operands.AddWorkspace("kStagedRows", 0, program::Operand::Access::kWrite);
  RegionLaunch& launch = code->launches.emplace_back();
  launch.entry = "matmul_stage_rows";
  launch.tiles = {1, program::TileCount::Per::kRows, kStageBlock};
  launch.operands = operands.operands();
  return operands.text() +
         fmt::format("constexpr i64 kStagedStride = {}, kStageBlock = {};\n", stride, kStageBlock) +
         StageText(spec) + kStageRows;
}

struct MicroTile {
  int64_t mr, nr;
};

// What fits into the registers: mr * nr / lanes sums, nr / lanes of the panel, one of a.
std::vector<MicroTile> MicroTiles(const Target& target) {
  if (target.vector_bytes == 64) return {{6, 64}, {8, 48}, {12, 32}, {14, 32}};
  return {{4, 24}, {6, 16}};
}

// The micro-tile that wastes least of its columns, the first among equals.
MicroTile BestMicroTile(const Spec& spec, const Target& target) {
  MicroTile best{};
  double best_waste = 0;
  for (const MicroTile& tile : MicroTiles(target)) {
    const Division division = Divide(spec, MakeSchedule(spec, tile.mr, tile.nr, 1024));
    int64_t columns = 0;
    for (const Part& part : spec.parts) columns += part.columns;
    const double waste =
        static_cast<double>(division.tiles * division.panels * tile.nr) / static_cast<double>(columns);
    if (best.mr == 0 || waste < best_waste - 0.01) {
      best = tile;
      best_waste = waste;
    }
  }
  return best;
}

}  // namespace

// Does not depend on the number of rows, so that all buckets share one kernel.
Schedule DefaultPanel(const Spec& spec, const Target& target, const StepShape& shape) {
  const MicroTile tile = BestMicroTile(spec, target);
  Schedule schedule = MakeSchedule(spec, tile.mr, tile.nr, 1024);
  // Where columns alone do not give each thread a few tiles, rows are divided as well.
  constexpr int64_t kTilesPerThread = 4;
  if (Divide(spec, schedule).tiles < kTilesPerThread * shape.threads) schedule["row_block"] = 128;
  return schedule;
}

std::vector<Schedule> PanelCandidates(const Spec& spec, const Target& target, const StepShape& shape) {
  std::vector<Schedule> candidates = {DefaultPanel(spec, target, shape)};
  for (const MicroTile& tile : MicroTiles(target)) {
    for (const int64_t kc : {512, 1024, 1536}) {
      const Schedule schedule = MakeSchedule(spec, tile.mr, tile.nr, kc);
      if (std::find(candidates.begin(), candidates.end(), schedule) == candidates.end()) {
        candidates.push_back(schedule);
      }
    }
  }
  for (const auto& [name, value] : {std::pair<const char*, int64_t>{"row_block", 256}, {"prefetch", 0}}) {
    candidates.push_back(candidates[0]);
    candidates.back()[name] = value;
  }
  return candidates;
}

RegionCode GeneratePanel(const ir::Graph& graph, const Spec& spec, const Target& target,
                         const Schedule& schedule) {
  CHECK(schedule.at("nr") % (target.vector_bytes / 4) == 0 && schedule.at("kc") % 64 == 0);
  const Unit unit = UnitFor(spec.weight_dtype, spec.math, target);
  const Division division = Divide(spec, schedule);
  RegionCode code;
  std::string text = CpuPrelude(target, unit);
  text += OpeningText(graph, spec, StagedElements(spec, target));

  // The rows of multiplicands: x itself, or a workspace that a launch of its own fills.
  OperandList operands;
  int64_t stride = RowStride(graph[spec.x].type);
  if (ReadsInPlace(graph, spec, target)) {
    operands.AddNode("kA", spec.x, program::Operand::Access::kRead);
  } else {
    stride = StagedElements(spec, target);
    text += AddStageLaunch(spec, stride, &code);
    code.workspaces.push_back({{.per_row = stride * 4 / ElementsPerUnit(unit)}});
    operands.AddWorkspace("kA", 0, program::Operand::Access::kRead);
  }
  AddProductOperands(spec, &operands);

  text += operands.text();
  text += ColumnsText(spec);
  text += fmt::format("constexpr int kMr = {}, kNr = {}, kPanels = {};\n", schedule.at("mr"),
                      schedule.at("nr"), division.panels);
  text += fmt::format("constexpr i64 kKc = {}, kRowBlock = {}, kAStride = {};\n", schedule.at("kc"),
                      schedule.at("row_block"), stride / ElementsPerUnit(unit));
  text += fmt::format("constexpr bool kPrefetch = {};\n", schedule.at("prefetch") != 0);
  if (division.tile_heads != 0) text += fmt::format("constexpr i64 kTileHeads = {};\n", division.tile_heads);
  text += FinishText(spec, graph, target);
  text += kTile;
  text += TileText(spec.epilogue);
  text += kPanelBody;

  code.source = std::move(text);
  RegionLaunch& launch = code.launches.emplace_back();
  launch.entry = "matmul";
  launch.tiles = {division.tiles, program::TileCount::Per::kRows, schedule.at("row_block")};
  launch.scratch_bytes = ScratchBytes(spec, target, schedule, division.panels);
  launch.operands = operands.operands();
  return code;
}

}  // namespace preheat::codegen::matmul
