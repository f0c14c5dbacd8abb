#include "codegen/attention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "codegen/attention_body.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout.h"
#include "codegen/cpu_prelude.h"

namespace preheat::codegen::attention {
namespace {

constexpr int64_t kBlock = 64;  // as in attention_body.cc

constexpr int64_t RoundUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// What the generators need of a node.
struct Region {
  bool split = false;
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t group = 0;  // query heads of a kv head
  ir::Type query;
  ir::Type result;
  CacheShape cache;
  Unit unit = Unit::kF32;
  int lanes = 0;

  Region(const ir::Graph& graph, ir::NodeId id, const Target& target) {
    const ir::Node& node = graph[id];
    split = node.op == ir::Op::kSplitAttention;
    query = graph[node.inputs[0]].type;
    result = node.type;
    cache = CacheShapeOf(graph[node.inputs[1]].type, target);
    heads = node.Int("heads");
    head_dim = node.Int("head_dim");
    group = heads / node.Int("kv_heads");
    const bool rounds = query.dtype == tensor::DType::kBf16;
    unit = UnitFor(cache.dtype, rounds ? tensor::DType::kBf16 : tensor::DType::kF32, target);
    lanes = target.vector_bytes / 4;
  }

  bool HasOneQuery() const { return query.shape[0] == ir::Dim::Of(1); }
  int64_t ElementBytes() const { return unit == Unit::kBf16Pair ? 2 : 4; }
};

// Vectors beside each of `mr` rows in a register tile: a power of two, since the vectors of a head and of a
// block mostly are. Registers: 32 of 64 bytes or 16 of 32; the sums may take 24 or 12 of them.
int64_t VectorsBeside(int64_t mr, int lanes) {
  const int64_t budget = (lanes == 16 ? 24 : 12) / mr;
  int64_t vectors = 1;
  while (vectors * 2 <= budget && vectors < 8) vectors *= 2;
  return vectors;
}

// Rows of the register tile that leave no row empty where a decode step's tile has `group` rows.
int64_t SplitMr(int64_t group) {
  const int64_t passes = (group + 5) / 6;
  return (group + passes - 1) / passes;
}

Schedule PrefillSchedule(const Region& region, const StepShape& shape) {
  if (region.HasOneQuery()) return {{"rows", 1}, {"mr", SplitMr(region.group)}};
  // About 48 rows: their sums stay in the nearest cache beside a block of keys and values.
  int64_t rows = 64;
  while (rows > 8 && rows * region.group > 64) rows /= 2;
  // Enough tiles to share out evenly: four a thread.
  const int64_t tiles = 4 * std::max<int64_t>(shape.threads, 2);
  const int64_t kv_heads = region.cache.kv_heads;
  while (shape.rows > 0 && rows > 8 && kv_heads * ((shape.rows + rows - 1) / rows) < tiles) rows /= 2;
  return {{"rows", rows}, {"mr", 6}};
}

Schedule SplitSchedule(const Region& region) {
  return {{"mr", SplitMr(region.group)}, {"ahead", 1}};
}

std::string Constants(const Region& region, const ir::Node& node, const Schedule& schedule, int64_t tile_rows,
                      int64_t scratch_bytes) {
  const int64_t mr = schedule.at("mr");
  std::vector<int> lanes(static_cast<size_t>(region.lanes));
  std::iota(lanes.begin(), lanes.end(), 0);
  const int64_t panels = kBlock / region.lanes;
  const int64_t vectors = region.head_dim / region.lanes;
  std::string text = fmt::format(
      "\ntypedef {} QueryElement;\ntypedef {} ResultElement;\n"
      "constexpr int kGroup = {}, kRows = {}, kMr = {}, kScoreVectors = {}, kValueVectors = {};\n"
      "constexpr i64 kQueryStride = {}, kScratchBytes = {};\n"
      "constexpr float kScale = {}f;\n"
      "INLINE VU LaneIndex() {{ return (VU){{{}}}; }}\n",
      ElementName(region.query.dtype), ElementName(region.result.dtype), region.group, tile_rows, mr,
      std::min(VectorsBeside(mr, region.lanes), panels), std::min(VectorsBeside(mr, region.lanes), vectors),
      RowStride(region.query), scratch_bytes, fmt::format("{:.9e}", static_cast<float>(node.Real("scale"))),
      fmt::join(lanes, ", "));
  if (region.split) {
    text +=
        fmt::format("constexpr bool kAhead = {};\nconstexpr i64 kPartPositions = {}, kPartialStride = {};\n",
                    schedule.at("ahead") != 0, node.Int("block"), RowStride(region.result));
  } else {
    text += fmt::format(
        "constexpr bool kAhead = false, kLastRowAlone = {};\nconstexpr int kTileQueries = {};\n"
        "constexpr i64 kResultStride = {};\n",
        region.HasOneQuery(), schedule.at("rows"), RowStride(region.result));
  }
  return text;
}

// sizeof(Rows) in the body, each member rounded up to its alignment.
int64_t ScratchBytes(const Region& region, int64_t tile_rows, int64_t mr) {
  const int64_t element = region.ElementBytes();
  return RoundUp(tile_rows * region.head_dim * element, 64) + RoundUp(tile_rows * region.head_dim * 4, 64) +
         RoundUp(tile_rows * region.lanes * 4, 64) + RoundUp((tile_rows + mr) * 4, 64) + mr * kBlock * 4 +
         RoundUp(mr * kBlock * element, 64);
}

}  // namespace

bool CanCompile(const ir::Graph& graph, ir::NodeId id, const Target& target) {
  const ir::Node& node = graph[id];
  const ir::Type& query = graph[node.inputs[0]].type;
  const ir::Type& cache = graph[node.inputs[1]].type;
  const int64_t head_dim = node.Int("head_dim");
  if (head_dim <= 0 || head_dim % 16 != 0 || head_dim > 512) return false;
  if (node.Int("kv_heads") <= 0 || node.Int("heads") % node.Int("kv_heads") != 0) return false;
  if (!tensor::IsFloat(query.dtype) || !tensor::IsFloat(cache.dtype) || !tensor::IsFloat(node.type.dtype))
    return false;
  if (cache.shape.size() != 4 || cache.shape[2].size != node.Int("kv_heads") ||
      cache.shape[3].size != head_dim) {
    return false;
  }
  if (node.op == ir::Op::kSplitAttention) {
    const int64_t block = node.Int("block");
    return block > 0 && block % kSplitBlockUnit == 0 && node.type.dtype == tensor::DType::kF32;
  }
  return target.vector_bytes == 32 || target.vector_bytes == 64;
}

Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId id, const Target& target,
                         const StepShape& shape) {
  const Region region(graph, id, target);
  return region.split ? SplitSchedule(region) : PrefillSchedule(region, shape);
}

std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId id, const Target& target,
                                 const StepShape& shape) {
  std::vector<Schedule> candidates = {attention::DefaultSchedule(graph, id, target, shape)};
  const auto add = [&](Schedule schedule) {
    if (std::find(candidates.begin(), candidates.end(), schedule) == candidates.end()) {
      candidates.push_back(std::move(schedule));
    }
  };
  const Region region(graph, id, target);
  if (region.split) {
    add({{"mr", SplitMr(region.group)}, {"ahead", 0}});
    return candidates;
  }
  if (region.HasOneQuery()) return candidates;
  const int64_t widest = target.vector_bytes == 64 ? 12 : 4;
  for (const int64_t mr : {int64_t{6}, widest}) {
    for (const int64_t rows : {16, 32, 64}) {
      if (shape.rows == 0 || rows < 2 * shape.rows) add({{"rows", rows}, {"mr", mr}});
    }
  }
  return candidates;
}

RegionCode Generate(const ir::Graph& graph, ir::NodeId id, const Target& target, const StepShape&,
                    const Schedule& schedule) {
  const ir::Node& node = graph[id];
  const Region region(graph, id, target);
  const int64_t mr = schedule.at("mr");
  const int64_t queries = region.split ? 1 : schedule.at("rows");
  const int64_t tile_rows = RoundUp(queries * region.group, mr);

  RegionLaunch launch;
  launch.scratch_bytes = ScratchBytes(region, tile_rows, mr);
  using Kind = RegionOperand::Kind;
  using Access = program::Operand::Access;
  launch.operands = {
      {.kind = Kind::kNode, .node = node.inputs[0]},
      {.kind = Kind::kKeyCache},
      {.kind = Kind::kValueCache},
      {.kind = Kind::kNode, .node = id, .access = Access::kWrite},
  };
  const int64_t kv_heads = region.cache.kv_heads;
  using Per = program::TileCount::Per;
  if (region.split) {
    launch.entry = "split_attention";
    launch.tiles = {.count = kv_heads, .per = Per::kPositions, .block = node.Int("block")};
  } else {
    launch.entry = "attention";
    launch.tiles = {
        .count = kv_heads, .per = region.HasOneQuery() ? Per::kStep : Per::kRows, .block = queries};
  }

  const bool pairs_as_floats = region.cache.key_dims == 2 && region.unit != Unit::kBf16Pair;
  RegionCode code;
  code.source = CpuPrelude(target, region.unit) + CachePrelude(region.cache) +
                Constants(region, node, schedule, tile_rows, launch.scratch_bytes) +
                (pairs_as_floats ? kCachedPairsAsFloats : kCachedUnits) + kBlockBody +
                (region.split ? kSplitBody : kPrefillBody);
  code.launches.push_back(std::move(launch));
  return code;
}

}  // namespace preheat::codegen::attention
