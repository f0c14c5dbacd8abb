#include "codegen/cuda/attention.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout.h"
#include "codegen/cuda/attention_body.h"
#include "codegen/cuda/flash_body.h"
#include "codegen/cuda/machine.h"
#include "codegen/cuda/machine_hopper.h"
#include "codegen/cuda/prelude.h"
#include "codegen/cuda/softmax_body.h"
#include "codegen/cuda/wgmma_attention_body.h"

namespace preheat::codegen::cuda::attention {
namespace {

using ir::Op;

constexpr int64_t kRows = 0, kTiles = 1, kWgmma = 2;  // families
constexpr int64_t kMostGroup = 8;             // heads that a block of rows takes together: its registers
constexpr int64_t kPositionsOfTile = 64;      // as in flash_body.cc
constexpr int64_t kRowsOfWarpgroup = 64;      // pairs of a query and a head: a unit
constexpr int64_t kSharedPerBlock = 1 << 10;  // that the card takes for itself

struct Region {
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t group = 0;  // query heads of a kv head
  double scale = 0;
  ir::Type query;
  ir::Type result;
  CacheShape cache;
  int64_t most_shared = 0;  // bytes of a block

  Region(const ir::Graph& graph, ir::NodeId id, const Target& target) {
    const ir::Node& node = graph[id];
    query = graph[node.inputs[0]].type;
    result = node.type;
    cache = CacheShapeOf(graph[node.inputs[1]].type, target);
    heads = node.Int("heads");
    head_dim = node.Int("head_dim");
    group = heads / node.Int("kv_heads");
    scale = node.Real("scale");
    most_shared = MostSharedBytes(target);
  }

  bool HasOneQuery() const { return query.shape[0] == ir::Dim::Of(1); }
  int64_t RowBytes() const { return head_dim * static_cast<int64_t>(tensor::Bytes(cache.dtype)); }
  // How many blocks of so many bytes have room on a multiprocessor: it has what a block may have at most, and
  // the card's own.
  int64_t BlocksPerSm(int64_t shared) const {
    return (most_shared + kSharedPerBlock) / (shared + kSharedPerBlock);
  }
  bool CanTile() const {
    const auto bf16 = tensor::DType::kBf16;
    return query.dtype == bf16 && cache.dtype == bf16 && head_dim % 16 == 0 && head_dim <= 128 && group <= 16;
  }
  bool CanWgmma(const Target& target) const {
    return target.name == "sm_90a" && CanTile() && head_dim % 64 == 0;
  }
};

// The largest part of a group that a block takes.
int64_t HeadsTogether(const Region& region) {
  int64_t heads = std::min(region.group, kMostGroup);
  while (region.group % heads != 0) --heads;
  return heads;
}

Schedule RowsSchedule(int64_t warps, int64_t splits, int64_t least) {
  return {{"family", kRows}, {"warps", warps}, {"splits", splits}, {"least", least}};
}

Schedule TilesSchedule(int64_t warps, int64_t parts) {
  return {{"family", kTiles}, {"warps", warps}, {"parts", parts}};
}

// Queries of a block's two warpgroups, in the mean: a whole unit each, or fewer, and then some units are
// alone.
Schedule WgmmaSchedule(int64_t positions, int64_t slots, int64_t queries) {
  return {{"family", kWgmma}, {"positions", positions}, {"slots", slots}, {"queries", queries}};
}
int64_t QueriesOfUnit(const Region& region) {
  return kRowsOfWarpgroup / region.group;
}

// Where the card has room for more blocks than pairs of units need, units that see most are alone: a
// warpgroup whose products wait for nobody else's takes two thirds of the time. Of few rows some stay paired:
// with five units for four blocks, 256 rows took 10 to 30 us less than with each unit alone.
int64_t QueriesOfBlock(const Region& region, const StepShape& shape) {
  const int64_t unit = QueriesOfUnit(region);
  if (shape.rows == 0) return 2 * unit;
  const int64_t blocks =
      std::max<int64_t>(1, Multiprocessors(shape) / region.cache.kv_heads);  // of a KV head
  const int64_t queries = std::max((shape.rows + blocks - 1) / blocks, unit + unit / 4);
  return std::min(queries, 2 * unit);
}

std::string Constants(const Region& region) {
  return fmt::format(
      "typedef {} QueryElement;\ntypedef {} ResultElement;\n"
      "constexpr i64 kQueryStride = {}, kResultStride = {};\nconstexpr float kScale = {:.9e}f;\n",
      ElementName(region.query.dtype), ElementName(region.result.dtype), RowStride(region.query),
      RowStride(region.result), static_cast<float>(region.scale));
}

RegionCode GenerateRows(const Region& region, const Schedule& schedule, RegionLaunch launch,
                        std::string text) {
  const int64_t warps = schedule.at("warps"), splits = schedule.at("splits");
  const int64_t heads = HeadsTogether(region), groups = region.heads / heads;
  int64_t lanes = 1;
  while (lanes * 16 < region.RowBytes()) lanes *= 2;
  text += fmt::format(
      "constexpr int kWarps = {}, kSplits = {}, kGroup = {}, kGroups = {}, kGroupsPerKvHead = {}, kRowLanes "
      "= {};\n"
      "constexpr i64 kLeastSplit = {};\nconstexpr bool kLastRowAlone = {};\n",
      warps, splits, heads, groups, region.group / heads, lanes, schedule.at("least"), region.HasOneQuery());
  text += kRowsBody;
  const int64_t part = region.head_dim + 2;
  using Per = program::TileCount::Per;
  launch.tiles = {.count = groups * splits, .per = region.HasOneQuery() ? Per::kStep : Per::kRows};
  launch.blocks = {.threads = static_cast<int>(warps) * 32, .shared_bytes = warps * heads * part * 4};
  RegionCode code;
  if (splits > 1) {
    using Access = program::Operand::Access;
    const auto add = [&](const program::Extent& extent, Keeps keeps) {
      launch.operands.push_back({.kind = RegionOperand::Kind::kWorkspace,
                                 .workspace = static_cast<int>(code.workspaces.size()),
                                 .access = Access::kReadWrite});
      code.workspaces.push_back({extent, keeps});
    };
    add({.fixed = region.heads * splits * part * 4}, Keeps::kNo);
    add({.fixed = groups * 4}, Keeps::kYes);  // of each group: splits that have arrived
  }
  code.source = std::move(text);
  code.launches.push_back(std::move(launch));
  return code;
}

RegionCode GenerateTiles(const Region& region, const Schedule& schedule, RegionLaunch launch,
                         std::string text) {
  const int64_t warps = schedule.at("warps"), parts = schedule.at("parts");
  const int64_t threads = warps * parts * 32;
  const int64_t shared = (warps * 16 + 2 * parts * kPositionsOfTile) * (region.head_dim + 8) * 2;
  // 168 registers of a thread are enough.
  const int64_t blocks_per_sm = std::clamp<int64_t>(region.BlocksPerSm(shared), 1, 65536 / (threads * 168));
  text += fmt::format(
      "constexpr int kRowWarps = {}, kParts = {}, kGroup = {}, kBlocksPerSm = {}, kTilePositions = {};\n",
      warps, parts, region.group, blocks_per_sm, kPositionsOfTile);
  text += kSoftmaxWords;
  text += kTilesBody;
  launch.tiles = {.count = region.cache.kv_heads,
                  .per = program::TileCount::Per::kRows,
                  .block = warps * 16 / region.group};
  launch.blocks = {.threads = static_cast<int>(threads), .shared_bytes = shared};
  RegionCode code;
  code.source = std::move(text);
  code.launches.push_back(std::move(launch));
  return code;
}

RegionCode GenerateWgmma(const Region& region, const Schedule& schedule, RegionLaunch launch,
                         std::string text) {
  const int64_t positions = schedule.at("positions"), slots = schedule.at("slots");
  const int64_t queries = schedule.at("queries"), unit = QueriesOfUnit(region), rows = 2 * kRowsOfWarpgroup;
  CHECK((positions == 64 || positions == 128) && slots >= 4 && queries >= unit && queries <= 2 * unit);
  const int64_t shared =
      slots * positions * region.head_dim * 2 + rows * (region.head_dim + 8) * 2 + 2 * slots * 8;
  CHECK(shared <= region.most_shared);
  text += HopperMachine(
      {.fragments = static_cast<int>(positions), .transposed = static_cast<int>(region.head_dim)});
  text += fmt::format(
      "constexpr int kTilePositions = {}, kSlots = {}, kGroup = {};\nconstexpr bool kSomeAlone = {};\n",
      positions, slots, region.group, queries < 2 * unit);
  text += kTurn;
  text += kSoftmaxWords;
  text += kWgmmaBody;
  launch.tiles = {.count = region.cache.kv_heads, .per = program::TileCount::Per::kRows, .block = queries};
  launch.blocks = {.threads = 3 * 128, .shared_bytes = shared};
  RegionCode code;
  code.source = std::move(text);
  code.launches.push_back(std::move(launch));
  return code;
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target&) {
  const ir::Node& node = graph[id];
  if (node.op != Op::kAttention) return false;
  const ir::Type& query = graph[node.inputs[0]].type;
  const ir::Type& cache = graph[node.inputs[1]].type;
  const int64_t head_dim = node.Int("head_dim"), kv_heads = node.Int("kv_heads");
  if (head_dim <= 0 || kv_heads <= 0 || node.Int("heads") % kv_heads != 0) return false;
  if (!tensor::IsFloat(query.dtype) || !tensor::IsFloat(cache.dtype) || !tensor::IsFloat(node.type.dtype))
    return false;
  constexpr int64_t kWarpBytes = 32 * 16;
  return head_dim * static_cast<int64_t>(tensor::Bytes(cache.dtype)) <= kWarpBytes &&
         cache.shape.size() == 4 && cache.shape[2] == ir::Dim::Of(kv_heads) &&
         cache.shape[3] == ir::Dim::Of(head_dim);
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId id, const Target& target,
                         const StepShape& shape) {
  const Region region(graph, id, target);
  if (shape.rows == 1 || region.HasOneQuery()) return RowsSchedule(8, 16, 256);
  if (region.CanWgmma(target)) return WgmmaSchedule(64, 8, QueriesOfBlock(region, shape));
  if (region.CanTile()) {
    // Few rows: more blocks, and positions side by side, since there is less to wait for. Many: keys and
    // values are read once for more rows.
    return shape.rows > 0 && shape.rows <= 256 ? TilesSchedule(2, 2) : TilesSchedule(4, 1);
  }
  return RowsSchedule(4, 1, 64);
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId id, const Target& target,
                                 const StepShape& shape) {
  std::vector<Schedule> candidates = {attention::DefaultSchedule(graph, id, target, shape)};
  const auto add = [&](const Schedule& schedule) {
    if (std::find(candidates.begin(), candidates.end(), schedule) == candidates.end())
      candidates.push_back(schedule);
  };
  const Region region(graph, id, target);
  if (shape.rows == 1 || region.HasOneQuery()) {
    for (const int64_t splits : {8, 16, 32}) {
      for (const int64_t warps : {4, 8, 16}) {
        for (const int64_t least : {128, 256}) add(RowsSchedule(warps, splits, least));
      }
    }
    return candidates;
  }
  if (region.CanWgmma(target)) {  // the others take twice as long
    const int64_t unit = QueriesOfUnit(region);
    add(WgmmaSchedule(64, 8, 2 * unit));
    add(WgmmaSchedule(128, 5, 2 * unit));
  } else if (region.CanTile()) {
    for (const auto& [warps, parts] : {std::pair{2, 2}, {4, 1}, {4, 2}, {8, 1}})
      add(TilesSchedule(warps, parts));
  }
  return candidates;
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target, const StepShape&,
                    const Schedule& schedule) {
  const ir::Node& node = graph[id];
  const Region region(graph, id, target);
  using Kind = RegionOperand::Kind;
  RegionLaunch launch;
  launch.entry = "attention";
  launch.operands = {
      {.kind = Kind::kNode, .node = node.inputs[0]},
      {.kind = Kind::kKeyCache},
      {.kind = Kind::kValueCache},
      {.kind = Kind::kNode, .node = id, .access = program::Operand::Access::kWrite},
  };
  std::string text =
      CudaPrelude(target, tensor::DType::kF32) + CachePrelude(region.cache) + Constants(region);
  if (schedule.at("family") == kWgmma) {
    CHECK(region.CanWgmma(target));
    return GenerateWgmma(region, schedule, std::move(launch), std::move(text));
  }
  if (schedule.at("family") == kTiles) {
    CHECK(region.CanTile());
    return GenerateTiles(region, schedule, std::move(launch), std::move(text));
  }
  return GenerateRows(region, schedule, std::move(launch), std::move(text));
}

}  // namespace preheat::codegen::cuda::attention
