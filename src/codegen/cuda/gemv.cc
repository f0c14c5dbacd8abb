#include "codegen/cuda/gemv.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "codegen/cuda/gemv_body.h"
#include "codegen/cuda/machine.h"
#include "codegen/cuda/prelude.h"
#include "codegen/cuda/stage_body.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::cuda {
namespace {

using matmul::Epilogue;
using matmul::Lists;
using matmul::OperandList;
using matmul::Spec;

constexpr int64_t kDirect = 0, kRing = 1;
constexpr int64_t kExchangeBytes = 16 * 2 * 32 * 4;  // for at most 16 teams: two turns of a warp's values

int64_t RowBytes(const Spec& spec) {
  return spec.k * static_cast<int64_t>(tensor::Bytes(spec.weight_dtype));
}

bool CanRing(const Spec& spec, const Target& target) {
  return target.sm >= 90 && RowBytes(spec) % 16 == 0;
}

bool IsBf16(const Spec& spec) {
  return spec.math == tensor::DType::kBf16 && spec.weight_dtype == tensor::DType::kBf16;
}

// The largest power of two up to `rows` that the epilogue's pairs allow.
int64_t RowsFor(const Spec& spec, int64_t rows) {
  while (rows > 1 && spec.epilogue == Epilogue::kRotaryAppend && spec.head_dim / 2 % rows != 0) rows /= 2;
  return rows;
}

Schedule MakeRing(const Spec& spec, int64_t warps, int64_t blocks, int64_t slots, int64_t slot_bytes) {
  // A slot that is no longer than a row.
  const int64_t bytes = std::min(slot_bytes, RowBytes(spec));
  const int64_t team = spec.epilogue == Epilogue::kRotaryAppend ? 2 : 1;
  return {{"family", kRing}, {"warps", warps}, {"blocks", blocks},    {"rows", 1},
          {"team", team},    {"slots", slots}, {"slot_bytes", bytes}, {"mma", IsBf16(spec) ? 1 : 0}};
}

Schedule MakeDirect(const Spec& spec, int64_t warps, int64_t blocks, int64_t rows) {
  return {{"family", kDirect},           {"warps", warps}, {"blocks", blocks},
          {"rows", RowsFor(spec, rows)}, {"team", 1},      {"mma", 0}};
}

// Where things lie in shared memory.
struct SharedLayout {
  int64_t x = 0;
  int64_t scratch = 0;
  int64_t exchange = 0;
  int64_t barriers = 0;
  int64_t bytes = 0;
};

SharedLayout LayOut(const Spec& spec, const Schedule& schedule, int64_t staged) {
  const bool ring = schedule.at("family") == kRing;
  const int64_t element = spec.math == tensor::DType::kBf16 ? 2 : 4;
  SharedLayout layout;
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    const int64_t begin = at;
    at = (at + bytes + 127) / 128 * 128;
    return begin;
  };
  if (ring) take(schedule.at("warps") * schedule.at("slots") * schedule.at("slot_bytes"));
  layout.x = take(staged * element);
  layout.scratch = take(kTeamScratchBytes);
  if (schedule.at("team") == 2) layout.exchange = take(kExchangeBytes);
  if (ring) layout.barriers = take(schedule.at("warps") * schedule.at("slots") * 8);
  layout.bytes = at;
  return layout;
}

bool Fits(const Spec& spec, const Schedule& schedule, const Target& target) {
  const int64_t staged = StagedElements(spec, static_cast<int>(schedule.at("warps")) * 32);
  return LayOut(spec, schedule, staged).bytes <= MostSharedBytes(target);
}

}  // namespace

// Figures of docs/performance.md: with 4 warps of slots of 6 KB, two blocks a multiprocessor, a 3B model's
// decode step came closest to reading alone.
Schedule DefaultGemv(const Spec& spec, const Target& target) {
  for (int64_t slots = CanRing(spec, target) ? 3 : 0; slots > 1; --slots) {
    const Schedule ring = MakeRing(spec, 4, 2, slots, 6144);
    if (Fits(spec, ring, target)) return ring;
  }
  return MakeDirect(spec, 8, 4, 1);
}

std::vector<Schedule> GemvCandidates(const Spec& spec, const Target& target) {
  std::vector<Schedule> candidates = {DefaultGemv(spec, target)};
  const auto add = [&](const Schedule& schedule) {
    const bool has = std::find(candidates.begin(), candidates.end(), schedule) != candidates.end();
    if (!has && Fits(spec, schedule, target)) candidates.push_back(schedule);
  };
  if (CanRing(spec, target)) {
    add(MakeRing(spec, 8, 2, 4, 3072));
    add(MakeRing(spec, 8, 1, 4, 6144));
    add(MakeRing(spec, 8, 1, 4, 3072));
    add(MakeRing(spec, 4, 3, 4, 4096));
  }
  add(MakeDirect(spec, 8, 4, 1));
  add(MakeDirect(spec, 8, 4, 2));
  return candidates;
}

RegionCode GenerateGemv(const ir::Graph& graph, const Spec& spec, const Target& target,
                        const Schedule& schedule) {
  const int64_t warps = schedule.at("warps"), rows = schedule.at("rows"), team = schedule.at("team");
  const bool ring = schedule.at("family") == kRing;
  CHECK(rows == RowsFor(spec, rows) && warps % team == 0 && team <= Lists(spec));
  CHECK(schedule.at("mma") == 0 || (ring && IsBf16(spec)));
  CHECK(!ring || (CanRing(spec, target) && schedule.at("slot_bytes") % 16 == 0));
  const int threads = static_cast<int>(warps) * 32;
  const int64_t staged = StagedElements(spec, threads);
  const SharedLayout layout = LayOut(spec, schedule, staged);

  OperandList operands;
  matmul::AddStageOperands(spec, &operands);
  matmul::AddProductOperands(spec, &operands);

  std::string text = CudaPrelude(target, spec.math);
  text += matmul::OpeningText(graph, spec, staged);
  text += operands.text();
  text += matmul::ColumnsText(spec);
  text += fmt::format(
      "constexpr int kWarps = {}, kBlocksPerSm = {}, kRows = {}, kLists = {}, kTeam = {};\n"
      "constexpr i64 kTiles = {};\n"
      "constexpr int kXAt = {}, kExchangeAt = {};\n",
      warps, schedule.at("blocks"), rows, Lists(spec), team, matmul::ColumnTiles(spec, rows), layout.x,
      layout.exchange);
  text += StageWords(graph, spec, threads, layout.scratch);
  text += WarpWords(matmul::FinishText(spec, graph, target) + matmul::ColumnTileText(spec));
  text += kGemvRows;
  text += schedule.at("mma") != 0 ? kGemvMma : kGemvFma;
  if (ring) {
    text += fmt::format("constexpr int kSlots = {}, kSlotBytes = {}, kBarriersAt = {};\n",
                        schedule.at("slots"), schedule.at("slot_bytes"), layout.barriers);
    text += kGemvRing;
  } else {
    text += kGemvDirect;
  }
  text += kGemvFinish;

  RegionCode code;
  code.source = std::move(text);
  RegionLaunch& launch = code.launches.emplace_back();
  launch.entry = "matmul";
  launch.tiles.count = (matmul::ColumnTiles(spec, rows) * team + warps - 1) / warps;  // blocks that have work
  launch.blocks = {.threads = threads,
                   .blocks_per_sm = static_cast<int>(schedule.at("blocks")),
                   .shared_bytes = layout.bytes};
  launch.operands = operands.operands();
  return code;
}

}  // namespace preheat::codegen::cuda
