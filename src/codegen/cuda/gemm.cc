#include "codegen/cuda/gemm.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/cuda/gemm_body.h"
#include "codegen/cuda/prelude.h"
#include "codegen/cuda/stage_body.h"
#include "codegen/cuda/wgmma.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::cuda {
namespace {

using matmul::Epilogue;
using matmul::Lists;
using matmul::OperandList;
using matmul::Prologue;
using matmul::Spec;
using program::Operand;
using tensor::DType;

constexpr int64_t kMma = 2, kWarp = 3;  // families
// Shapes that are tried, and how many of them also with another number of steps of weights asked for ahead.
// Few: prompts by the best of four, two of them in two ways, took an H200 no less time than by the
// heuristics.
constexpr size_t kWgmmaCandidates = 3, kWithOtherHeads = 1;
constexpr int kStageThreads = 128;
constexpr int64_t kStepOfMma = 32, kStrideOfMma = 40;  // as in gemm_body.cc

bool CanMma(const Spec& spec) {
  return spec.math == DType::kBf16 && spec.weight_dtype == DType::kBf16 && spec.k % 8 == 0;
}

Schedule MakeMma(int64_t tile_rows, int64_t tile_columns, int64_t stages) {
  return {{"family", kMma}, {"tile_rows", tile_rows}, {"tile_columns", tile_columns}, {"stages", stages}};
}

// Where there is no wgmma.
Schedule DefaultMma(const Spec& spec, const StepShape& shape) {
  if (!CanMma(spec)) return {{"family", kWarp}};
  return MakeMma(shape.rows > 0 && shape.rows <= 64 ? 64 : 128, 128, 4);
}

// Sums of squares stand tile of columns by tile of columns, four rows side by side in 16 bytes.
constexpr int64_t kHandedRowUnit = 4;
constexpr char kHandedStrideText[] = "INLINE i64 HandedStride(i64 rows) { return (rows + 3) / 4 * 4; }\n";

// Who makes the rows that are multiplied.
enum class StagedBy { kNobody, kLaunch, kEarlierRegion };
struct Staged {
  StagedBy by = StagedBy::kNobody;
  int64_t stride = 0;  // elements from one row to the next
};

Staged StagedRows(const ir::Graph& graph, const Spec& spec, const Schedule& schedule) {
  const DType element = spec.math == DType::kBf16 ? DType::kBf16 : DType::kF32;
  const ir::Type& x = graph[spec.x].type;
  if (spec.prologue == Prologue::kNone && x.dtype == element) return {StagedBy::kNobody, RowStride(x)};
  return {schedule.contains("handed") ? StagedBy::kEarlierRegion : StagedBy::kLaunch,
          StagedElements(spec, kStageThreads)};
}

// Of a product that hands its result on: what its text names for that; the specification with where it goes.
std::string HandsOnText(const ir::Graph& graph, Spec* spec) {
  const std::vector<ir::NodeId> normalizers = NormalizersOf(graph, spec->node);
  CHECK(!normalizers.empty());
  const auto to = matmul::ReadSpec(graph, normalizers.front());
  CHECK(to.has_value());
  spec->handed_to = to->node;
  spec->gain = to->norm;
  spec->gain_of_next_round = graph[to->x].op == ir::Op::kCarry;
  return fmt::format("typedef {} Gain;\nconstexpr i64 kHandedStride = {};\n",
                     ElementName(graph[to->norm].type.dtype), StagedElements(*to, kStageThreads));
}

RegionOperand Handed(const Spec& to, int which, Operand::Access access) {
  return {.kind = RegionOperand::Kind::kHanded, .node = to.node, .workspace = which, .access = access};
}

// A launch over rows, with operands of its own.
void AddRowLaunch(const char* entry, const OperandList& operands, RegionCode* code) {
  RegionLaunch& launch = code->launches.emplace_back();
  launch.entry = entry;
  launch.tiles = {1, program::TileCount::Per::kRows, 1};
  launch.blocks = {.threads = kStageThreads, .shared_bytes = kTeamScratchBytes};
  launch.operands = operands.operands();
}

// True of a Carry that in the first round is what no product made.
bool BeginsRounds(const ir::Graph& graph, ir::NodeId x) {
  if (graph[x].op != ir::Op::kCarry) return false;
  return std::ranges::any_of(graph.blocks, [&](const ir::Block& block) {
    return block.repeats() && std::ranges::count(block.nodes, x) > 0 &&
           graph[block.carried].op != ir::Op::kMatmul;
  });
}

// Nobody hands those rows on: a launch does, once. Its text, which is also that of the rounds of another
// block: they run the same code.
std::string AddFirstHandOn(const ir::Graph& graph, const Spec& spec, int64_t sums_of_row, RegionCode* code) {
  OperandList operands;
  matmul::AddStageOperands(spec, &operands);
  operands.Add("kFirstRows", Handed(spec, 0, Operand::Access::kWrite));
  operands.Add("kFirstSquares", Handed(spec, 1, Operand::Access::kWrite));
  if (BeginsRounds(graph, spec.x)) {
    AddRowLaunch("hand_on", operands, code);
    code->launches.back().before_rounds = true;
  }
  return fmt::format("constexpr int kSumsOfRow = {};\n", sums_of_row) + operands.text() +
         HandOnWords(spec, kStageThreads, 0) + kHandOnKernel;
}

}  // namespace

Schedule DefaultGemm(const Spec& spec, const Target& target, const StepShape& shape) {
  if (const auto region = WgmmaRegionOf(spec, target)) {
    const std::vector<WgmmaNumbers> choices = WgmmaChoices(*region, shape, 1);
    if (!choices.empty()) return ToSchedule(choices[0]);
  }
  return DefaultMma(spec, shape);
}

std::vector<Schedule> GemmCandidates(const Spec& spec, const Target& target, const StepShape& shape) {
  std::vector<Schedule> candidates;
  if (const auto region = WgmmaRegionOf(spec, target)) {
    const std::vector<WgmmaNumbers> choices = WgmmaChoices(*region, shape, kWgmmaCandidates);
    for (size_t i = 0; i < choices.size(); ++i) {
      WgmmaNumbers n = choices[i];
      candidates.push_back(ToSchedule(n));
      if (i >= kWithOtherHeads) continue;
      n.w_head = n.w_head == n.w_slots ? (n.w_slots + 1) / 2 : n.w_slots;
      candidates.push_back(ToSchedule(n));
    }
  }
  if (!candidates.empty()) return candidates;
  candidates.push_back(DefaultMma(spec, shape));
  if (!CanMma(spec)) return candidates;
  for (const int64_t rows : {64, 128}) {
    for (const int64_t columns : {64, 128}) {
      const Schedule schedule = MakeMma(rows, columns, 4);
      if (std::find(candidates.begin(), candidates.end(), schedule) == candidates.end())
        candidates.push_back(schedule);
    }
  }
  return candidates;
}

std::vector<Workspace> HandOnGemm(const Spec& from, Schedule* from_schedule, const Spec& to,
                                  Schedule* to_schedule, const Target& target) {
  const auto is_wgmma = [](const Schedule& schedule) { return schedule.at("family") == kWgmmaFamily; };
  if (!is_wgmma(*from_schedule) || !is_wgmma(*to_schedule)) return {};
  const auto region = WgmmaRegionOf(from, target), to_region = WgmmaRegionOf(to, target);
  if (!region || !to_region || from.epilogue != Epilogue::kAdd || from.to_logits || to.k != region->columns)
    return {};
  WgmmaNumbers numbers = ToWgmmaNumbers(*from_schedule);
  numbers.hands_on = 1;
  const auto shape = WgmmaShape::Of(*region, numbers);
  if (!shape) return {};
  WgmmaNumbers to_numbers = ToWgmmaNumbers(*to_schedule);
  to_numbers.handed = shape->column_tiles() * numbers.split;
  if (!WgmmaShape::Of(*to_region, to_numbers)) return {};
  *from_schedule = ToSchedule(numbers);
  *to_schedule = ToSchedule(to_numbers);
  const int64_t sums = to_numbers.handed;
  return {{{.per_row = StagedElements(to, kStageThreads) * 2}},
          {{.fixed = sums * (kHandedRowUnit - 1) * 4, .per_row = sums * 4}}};
}

RegionCode GenerateGemm(const ir::Graph& graph, const Spec& product, const Target& target,
                        const Schedule& schedule) {
  Spec spec = product;
  const Staged staged = StagedRows(graph, spec, schedule);
  const bool mma = schedule.at("family") == kMma;
  CHECK(!mma || CanMma(spec));
  CHECK(spec.prologue != Prologue::kMerge);  // the attention of this dialect has no parts to merge
  const bool rotary = spec.epilogue == Epilogue::kRotaryAppend;

  // The two launches' operands are numbered apart, so each has its names in a namespace of its own.
  RegionCode code;
  OperandList operands;
  std::string text = CudaPrelude(target, spec.math);
  text += matmul::OpeningText(graph, spec, staged.by == StagedBy::kNobody ? spec.k : staged.stride);
  text += fmt::format("constexpr i64 kAStride = {};\n", staged.stride);
  const bool hands_on = schedule.contains("hands_on");
  if (hands_on || staged.by == StagedBy::kEarlierRegion) text += kHandedStrideText;
  if (hands_on) text += HandsOnText(graph, &spec);
  if (staged.by == StagedBy::kNobody) {
    operands.AddNode("kA", spec.x, Operand::Access::kRead);
  } else if (staged.by == StagedBy::kEarlierRegion) {
    text += fmt::format("constexpr float kEps = {:.9e}f;\n", spec.eps);
    if (graph[spec.x].op == ir::Op::kCarry) text += AddFirstHandOn(graph, spec, schedule.at("handed"), &code);
    operands.Add("kA", Handed(spec, 0, Operand::Access::kRead));
  } else {
    OperandList stage;
    matmul::AddStageOperands(spec, &stage);
    stage.AddWorkspace("kStagedRows", 0, Operand::Access::kWrite);
    AddRowLaunch("matmul_stage_rows", stage, &code);
    code.workspaces.push_back({{.per_row = staged.stride * (spec.math == DType::kBf16 ? 2 : 4)}});
    text += stage.text() + StageWords(graph, spec, kStageThreads, 0) + kStageRowsKernel;
    operands.AddWorkspace("kA", 0, Operand::Access::kRead);
  }
  const int64_t total = matmul::ColumnTiles(spec, 1);
  matmul::AddProductOperands(spec, &operands);
  if (staged.by == StagedBy::kEarlierRegion)
    operands.Add("kSquares", Handed(spec, 1, Operand::Access::kRead));
  text += operands.text();
  text += matmul::ColumnsText(spec);
  text += fmt::format(
      "constexpr int kLists = {};\nconstexpr i64 kTotal = {};\nconstexpr bool kPairsInHeads = {};\n",
      Lists(spec), total, rotary);
  if (schedule.at("family") == kWgmmaFamily) {
    const auto region = WgmmaRegionOf(spec, target);
    const auto shape = region ? WgmmaShape::Of(*region, ToWgmmaNumbers(schedule)) : std::nullopt;
    CHECK(shape.has_value());
    RegionLaunch& launch = code.launches.emplace_back();
    launch.entry = "matmul";
    launch.operands = operands.operands();
    ShapeWgmmaLaunch(spec, *shape, {.operand = 0, .stride = staged.stride}, &launch);
    code.source = text + WgmmaText(graph, spec, target, *shape);
    return code;
  }
  text += WarpWords(matmul::FinishText(spec, graph, target) +
                    fmt::format("constexpr i64 kPairDistance = {};\n", rotary ? spec.head_dim / 2 : 1));
  text += kColumnPlaces;

  RegionLaunch& launch = code.launches.emplace_back();
  launch.entry = "matmul";
  launch.operands = operands.operands();
  if (mma) {
    const int64_t rows = schedule.at("tile_rows"), columns = schedule.at("tile_columns");
    const int64_t list_columns = columns / Lists(spec);
    text += fmt::format("constexpr int kTileRows = {}, kTileColumns = {}, kStages = {};\n", rows, columns,
                        schedule.at("stages"));
    text += kFinishTileRow;
    text += kGemmMma;
    launch.tiles = {(total + list_columns - 1) / list_columns, program::TileCount::Per::kRows, rows};
    launch.blocks = {.threads = 256,
                     .shared_bytes = std::max(schedule.at("stages") * (rows + columns) * kStrideOfMma * 2,
                                              rows * (columns + 4) * 4)};
  } else {
    text += kGemmWarp;
    launch.tiles = {(total + 7) / 8, program::TileCount::Per::kRows, 8};
    launch.blocks = {.threads = 256};
  }
  code.source = std::move(text);
  return code;
}

}  // namespace preheat::codegen::cuda
