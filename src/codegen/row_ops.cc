#include "codegen/row_ops.h"

#include <fmt/format.h>

#include "codegen/buffers.h"
#include "codegen/cpu_prelude.h"

namespace preheat::codegen::row_ops {
namespace {

constexpr char kNormBody[] = R"(
ENTRY void rms_norm(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  const XElement* x = Operand<const XElement>(args, 0);
  const WeightElement* weight = Operand<const WeightElement>(args, 1);
  ResultElement* result = Operand<ResultElement>(args, 2);
  constexpr int kSums = 4;  // apart, since one addition waits for the other
  constexpr int kWhole = kWidth / LANES * LANES, kTail = kWidth - kWhole;
  const i64 end = Min(tile_end * kTileRows, args->rows);
  NO_UNROLL for (i64 row = tile_begin * kTileRows; row < end; ++row) {
    const XElement* from = x + row * kXStride;
    ResultElement* to = result + row * kResultStride;
    VF sums[kSums] = {};
    int d = 0;
    NO_UNROLL for (; d + kSums * LANES <= kWhole; d += kSums * LANES) {
      UNROLL for (int j = 0; j < kSums; ++j) {
        const VF v = Load(from + d + j * LANES);
        sums[j] = Fma(v, v, sums[j]);
      }
    }
    NO_UNROLL for (; d < kWhole; d += LANES) sums[0] = Fma(Load(from + d), Load(from + d), sums[0]);
    if (kTail != 0) {
      const VF v = LoadTail(from + kWhole, kTail);
      sums[1] = Fma(v, v, sums[1]);
    }
    const float squares = Sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    const VF factor = Splat(Rsqrt(squares / kWidth + kEps));
    NO_UNROLL for (d = 0; d < kWhole; d += LANES) Store(to + d, Load(from + d) * factor * Load(weight + d));
    if (kTail != 0) {
      StoreTail(to + kWhole, LoadTail(from + kWhole, kTail) * factor * LoadTail(weight + kWhole, kTail), kTail);
    }
  }
}
)";

constexpr char kLastRowBody[] = R"(
ENTRY void last_row(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  if (tile_begin >= tile_end) return;
  const XElement* from = Operand<const XElement>(args, 0) + (args->rows - 1) * kXStride;
  ResultElement* to = Operand<ResultElement>(args, 1);
  constexpr int kWhole = kWidth / LANES * LANES, kTail = kWidth - kWhole;
  for (int d = 0; d < kWhole; d += LANES) Store(to + d, Load(from + d));
  if (kTail != 0) StoreTail(to + kWhole, LoadTail(from + kWhole, kTail), kTail);
}
)";

bool IsNorm(const ir::Node& node) {
  return node.op == ir::Op::kRmsNorm;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Node& node = graph[id];
  const ir::Type& x = graph[node.inputs[0]].type;
  if (!tensor::IsFloat(x.dtype) || !tensor::IsFloat(node.type.dtype) || x.shape.size() != 2) return false;
  return !IsNorm(node) || tensor::IsFloat(graph[node.inputs[1]].type.dtype);
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId id, const Target&, const StepShape&) {
  // A row takes about a microsecond: a few of them make a tile worth claiming.
  return IsNorm(graph[id]) ? Schedule{{"rows", 4}} : Schedule{};
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId id, const Target& target,
                                 const StepShape& shape) {
  return {row_ops::DefaultSchedule(graph, id, target, shape)};
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target, const StepShape&,
                    const Schedule& schedule) {
  const ir::Node& node = graph[id];
  const ir::Type& x = graph[node.inputs[0]].type;
  const bool to_logits = id == graph.logits;
  RegionCode code;
  code.source = CpuPrelude(target, Unit::kF32) +
                fmt::format(
                    "\ntypedef {} XElement;\ntypedef {} ResultElement;\n"
                    "constexpr i64 kWidth = {}, kXStride = {}, kResultStride = {};\n",
                    ElementName(x.dtype), ElementName(node.type.dtype), x.shape[1].size, RowStride(x),
                    to_logits ? x.shape[1].size : RowStride(node.type));
  using Kind = RegionOperand::Kind;
  using Access = program::Operand::Access;
  RegionLaunch launch;
  launch.operands.push_back({.node = node.inputs[0]});
  if (IsNorm(node)) {
    const int64_t rows = schedule.at("rows");
    code.source += fmt::format(
        "typedef {} WeightElement;\nconstexpr i64 kTileRows = {};\nconstexpr float kEps = {:.9e}f;\n",
        ElementName(graph[node.inputs[1]].type.dtype), rows, static_cast<float>(node.Real("eps")));
    code.source += kNormBody;
    launch.entry = "rms_norm";
    launch.tiles = {.count = 1, .per = program::TileCount::Per::kRows, .block = rows};
    launch.operands.push_back({.node = node.inputs[1]});
  } else {
    code.source += kLastRowBody;
    launch.entry = "last_row";
  }
  launch.operands.push_back(
      {.kind = to_logits ? Kind::kLogits : Kind::kNode, .node = id, .access = Access::kWrite});
  code.launches.push_back(std::move(launch));
  return code;
}

}  // namespace preheat::codegen::row_ops
