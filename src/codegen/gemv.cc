#include "codegen/gemv.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::matmul {
namespace {

// Weights of one claim: long enough that claiming costs nothing, short enough that threads finish together.
constexpr int64_t kChunkBytes = 96 * 1024;

// A tile: kRows neighbouring columns of each list, that is kRows rows of weights from each place. Their sums
// run in kUnroll vectors a row; the last tile of a part may be short, and then repeats the part's last row.
constexpr char kBody[] = R"text(
// sums[r] in its lanes: the product of x and rows[r], still to be added across lanes.
template <int ROWS> INLINE void DotRows(const Element* x, const W* const* rows, VF* sums) {
  constexpr i64 kVector = LANES * KPU, kStep = kUnroll * kVector;
  constexpr i64 kSteps = kK / kStep * kStep, kVectors = kK / kVector * kVector;
  VF acc[ROWS][kUnroll] = {};
  NO_UNROLL for (i64 k = 0; k < kSteps; k += kStep) {
    UNROLL for (int u = 0; u < kUnroll; ++u) {
      const VU a = LoadUnits(x + k + u * kVector);
      UNROLL for (int r = 0; r < ROWS; ++r) {
        const W* w = rows[r] + k + u * kVector;
        if constexpr (kAhead != 0) PrefetchL1((const char*)w + kAhead);
        acc[r][u] = Dot(acc[r][u], a, LoadUnits(w));
      }
    }
  }
  NO_UNROLL for (i64 k = kSteps; k < kVectors; k += kVector) {
    const VU a = LoadUnits(x + k);
    UNROLL for (int r = 0; r < ROWS; ++r) acc[r][0] = Dot(acc[r][0], a, LoadUnits(rows[r] + k));
  }
  if constexpr (kVectors < kK) {
    const VU a = LoadUnits(x + kVectors);
    UNROLL for (int r = 0; r < ROWS; ++r) {
      acc[r][0] = Dot(acc[r][0], a, LoadUnitsTail(rows[r] + kVectors, kK - kVectors));
    }
  }
  UNROLL for (int r = 0; r < ROWS; ++r) {
    sums[r] = acc[r][0];
    UNROLL for (int u = 1; u < kUnroll; ++u) sums[r] += acc[r][u];
  }
}

// The products of columns column .. column + kRows - 1 of a part, its last one repeated where there are less.
INLINE VF Columns(const ph_args* args, int part, i64 column, const Element* x) {
  const W* weight = Operand<const W>(args, kWeight0 + part);
  const W* rows[kRows];
  UNROLL for (int r = 0; r < kRows; ++r) rows[r] = weight + Min(column + r, ColumnsOf(part) - 1) * kK;
  VF sums[kRows];
  UNROLL for (int r = 0; r < kRows; r += kStreams) DotRows<kStreams>(x, rows + r, sums + r);
  return SumEach<kRows>(sums);
}

ENTRY void matmul_stage(const ph_args* args, i64, i64, void* scratch) {
  StageRow(args, 0, (Element*)scratch);
}

ENTRY void matmul(const ph_args* args, i64 tile_begin, i64 tile_end, void* scratch) {
  const Element* x = (const Element*)scratch;
  for (i64 t = tile_begin; t < tile_end; ++t) {
    const Tile tile = TileAt(t);
    const VF y0 = Columns(args, tile.part, tile.column, x);
    VF y1 = y0;
    if constexpr (kLists == 2) y1 = Columns(args, tile.part1, tile.column1, x);
    if (tile.count == kRows) {
      Finish(args, 0, tile.part, tile.column, kRows, y0, y1, Before(args, 0, tile.part, tile.column, kRows));
    } else {
      for (int i = 0; i < tile.count; ++i) {
        Finish(args, 0, tile.part, tile.column + i, 1, Splat(y0[i]), Splat(y1[i]),
               Before(args, 0, tile.part, tile.column + i, 1));
      }
    }
  }
}
)text";

// The largest power of two up to `rows` that the epilogue's pairs allow.
int64_t RowsFor(const Spec& spec, const Target& target, int64_t rows) {
  rows = std::min<int64_t>(rows, target.vector_bytes / 4);
  while (rows > 1 && spec.epilogue == Epilogue::kRotaryAppend && spec.head_dim / 2 % rows != 0) rows /= 2;
  return rows;
}

Schedule MakeSchedule(const Spec& spec, const Target& target, int64_t rows, int64_t streams, int64_t unroll) {
  rows = RowsFor(spec, target, rows);
  const int64_t tile_bytes =
      rows * Lists(spec) * spec.k * static_cast<int64_t>(tensor::Bytes(spec.weight_dtype));
  return {{"family", 0},      {"rows", rows}, {"streams", std::min(streams, rows)},
          {"unroll", unroll}, {"ahead", 512}, {"chunk", std::max<int64_t>(1, kChunkBytes / tile_bytes)}};
}

}  // namespace

// 8 rows side by side, or one after the other, come closest to reading alone (80 to 95% of it on a busy
// machine of two cores); what lies between is up to 10 points behind. What is asked for 512 bytes ahead gives
// 6 to 10 points more where two cores do not fill the memory's bandwidth, and takes nothing where they do;
// further ahead takes up to 17 points there.
Schedule DefaultGemv(const Spec& spec, const Target& target, const StepShape&) {
  return MakeSchedule(spec, target, 8, 8, 1);
}

std::vector<Schedule> GemvCandidates(const Spec& spec, const Target& target, const StepShape& shape) {
  struct Choice {
    int64_t rows, streams, unroll;
  };
  std::vector<Schedule> candidates = {DefaultGemv(spec, target, shape)};
  for (const Choice& choice :
       {Choice{1, 1, 4}, {2, 2, 2}, {4, 1, 4}, {4, 4, 1}, {4, 4, 2}, {8, 1, 4}, {8, 8, 2}}) {
    const Schedule schedule = MakeSchedule(spec, target, choice.rows, choice.streams, choice.unroll);
    if (std::find(candidates.begin(), candidates.end(), schedule) == candidates.end()) {
      candidates.push_back(schedule);
    }
  }
  candidates.push_back(candidates[0]);
  candidates.back()["ahead"] = 0;
  return candidates;
}

RegionCode GenerateGemv(const ir::Graph& graph, const Spec& spec, const Target& target,
                        const Schedule& schedule) {
  const int64_t rows = schedule.at("rows");
  CHECK(rows == RowsFor(spec, target, rows) && rows % schedule.at("streams") == 0);
  OperandList operands;
  AddStageOperands(spec, &operands);
  AddProductOperands(spec, &operands);

  std::string text = CpuPrelude(target, UnitOf(spec, target));
  text += OpeningText(graph, spec, StagedElements(spec, target));
  text += operands.text();
  text += ColumnsText(spec);
  text += fmt::format("constexpr int kRows = {}, kStreams = {}, kUnroll = {}, kLists = {}, kAhead = {};\n",
                      rows, schedule.at("streams"), schedule.at("unroll"), Lists(spec), schedule.at("ahead"));
  text += StageText(spec);
  text += FinishText(spec, graph, target);
  text += ColumnTileText(spec);
  text += kBody;

  RegionCode code;
  code.source = std::move(text);
  RegionLaunch& launch = code.launches.emplace_back();
  launch.entry = "matmul";
  launch.stage_entry = "matmul_stage";
  launch.tiles.count = ColumnTiles(spec, rows);
  launch.chunk = schedule.at("chunk");
  launch.scratch_bytes = StagedElements(spec, target) * 4;
  launch.operands = operands.operands();
  return code;
}

}  // namespace preheat::codegen::matmul
