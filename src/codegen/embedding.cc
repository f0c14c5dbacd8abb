#include "codegen/embedding.h"

#include <fmt/format.h>

#include "codegen/buffers.h"
#include "codegen/cpu_prelude.h"

namespace preheat::codegen::embedding {
namespace {

constexpr char kBody[] = R"(
ENTRY void embedding(const ph_args* args, i64 tile_begin, i64 tile_end, void*) {
  const i32* ids = Operand<const i32>(args, 0);
  const TableElement* table = Operand<const TableElement>(args, 1);
  ResultElement* result = Operand<ResultElement>(args, 2);
  constexpr int kWhole = kWidth / LANES * LANES, kTail = kWidth - kWhole;
  const i64 end = Min(tile_end * kTileRows, args->rows);
  NO_UNROLL for (i64 row = tile_begin * kTileRows; row < end; ++row) {
    const TableElement* from = table + Max(Min(ids[row], kVocab - 1), 0) * kWidth;
    ResultElement* to = result + row * kResultStride;
    for (int d = 0; d < kWhole; d += LANES) Store(to + d, Load(from + d));
    if (kTail != 0) StoreTail(to + kWhole, LoadTail(from + kWhole, kTail), kTail);
  }
}
)";

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Type& table = graph[graph[id].inputs[1]].type;
  return tensor::IsFloat(table.dtype) && tensor::IsFloat(graph[id].type.dtype) && table.shape.size() == 2 &&
         table.shape[0].size > 0 && table.shape[1].size > 0;
}

// A row is copied in about a microsecond: a few of them make a tile worth claiming.
Schedule DefaultSchedule(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {{"rows", 4}};
}

std::vector<Schedule> Candidates(const ir::Graph&, ir::NodeId, const Target&, const StepShape&) {
  return {{{"rows", 4}}};
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target, const StepShape&,
                    const Schedule& schedule) {
  const ir::Node& node = graph[id];
  const ir::Type& table = graph[node.inputs[1]].type;
  RegionCode code;
  code.source = CpuPrelude(target, Unit::kF32) +
                fmt::format(
                    "\ntypedef {} TableElement;\ntypedef {} ResultElement;\n"
                    "constexpr i64 kVocab = {}, kWidth = {}, kResultStride = {}, kTileRows = {};\n",
                    ElementName(table.dtype), ElementName(node.type.dtype), table.shape[0].size,
                    table.shape[1].size, RowStride(node.type), schedule.at("rows")) +
                kBody;
  using Kind = RegionOperand::Kind;
  RegionLaunch launch;
  launch.entry = "embedding";
  launch.tiles = {.count = 1, .per = program::TileCount::Per::kRows, .block = schedule.at("rows")};
  launch.operands = {
      {.kind = Kind::kIds},
      {.kind = Kind::kNode, .node = node.inputs[1]},
      {.kind = Kind::kNode, .node = id, .access = program::Operand::Access::kWrite},
  };
  code.launches.push_back(std::move(launch));
  return code;
}

}  // namespace preheat::codegen::embedding
