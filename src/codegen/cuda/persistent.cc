#include "codegen/cuda/persistent.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout.h"
#include "codegen/cuda/persistent_body.h"
#include "codegen/cuda/prelude.h"
#include "codegen/cuda/stage_body.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::cuda::persistent {
namespace {

using ir::Op;
using matmul::Epilogue;
using matmul::OperandList;
using matmul::Prologue;
using matmul::Spec;
using Access = program::Operand::Access;

constexpr int64_t kWarps = 8, kTileRows = 8, kLinkBytes = 136, kNamedBarriers = 16;
constexpr int64_t kSharedBytes = 227 << 10;  // of a block, on sm_90 and sm_100
constexpr int64_t kFewestStages = 6;
constexpr int64_t kMostParts = 16;                 // of the positions, in attention
constexpr int kFresh = 0, kParts = 1, kEpoch = 2;  // workspaces

enum class XPlace { kNone, kNormed, kPlain };  // where a product's multiplicands lie in shared memory

XPlace PlaceOf(const Spec& spec) {
  return spec.prologue == Prologue::kRmsNorm ? XPlace::kNormed : XPlace::kPlain;
}

int64_t RowsOfList(const Spec& spec) {
  return kTileRows / matmul::Lists(spec);
}

int64_t TilesOf(const Spec& spec) {
  return matmul::ColumnTiles(spec, RowsOfList(spec));
}

struct AttentionShape {
  int64_t heads, kv_heads, head_dim;
  int64_t group() const { return heads / kv_heads; }
  int64_t PartWords() const { return kv_heads * kMostParts * group() * (head_dim + 2); }
  int64_t ScratchBytes() const { return std::max(16 * head_dim * 2, kWarps * group() * (head_dim + 4) * 4); }
};

AttentionShape ShapeOf(const ir::Node& node) {
  return {node.Int("heads"), node.Int("kv_heads"), node.Int("head_dim")};
}

// The nodes that compute, in order, without the sample behind the logits; empty where the graph has another
// shape.
std::vector<ir::NodeId> LinksOf(const ir::Graph& graph) {
  std::vector<ir::NodeId> links;
  int repeating = 0;
  for (const ir::Block& block : graph.blocks) {
    repeating += block.repeats() ? 1 : 0;
    for (const ir::NodeId id : block.nodes) {
      switch (graph[id].op) {
        case Op::kIds:
        case Op::kWeight:
        case Op::kKvCache:
        case Op::kCarry:
        case Op::kAppendedCache:
          break;
        case Op::kSample:
          if (links.empty() || links.back() != graph.logits) return {};
          return repeating == 1 ? links : std::vector<ir::NodeId>{};
        default:
          links.push_back(id);
      }
    }
  }
  return {};
}

const ir::Block& LayersOf(const ir::Graph& graph) {
  return *std::find_if(graph.blocks.begin(), graph.blocks.end(),
                       [](const ir::Block& b) { return b.repeats(); });
}

bool CanLink(const ir::Graph& graph, const Spec& spec) {
  const auto bf16 = tensor::DType::kBf16;
  const bool rows = std::all_of(spec.parts.begin(), spec.parts.end(), [&](const matmul::Part& part) {
    return part.columns % RowsOfList(spec) == 0;
  });
  return spec.one_row && spec.math == bf16 && spec.weight_dtype == bf16 && spec.k % 512 == 0 && rows &&
         spec.prologue != Prologue::kMerge &&
         (spec.epilogue != Epilogue::kRotaryAppend ||
          (spec.head_dim / 2 % RowsOfList(spec) == 0 && graph[spec.cache].type.dtype == bf16));
}

bool CanLinkAttention(const ir::Graph& graph, const ir::Node& node) {
  const auto bf16 = tensor::DType::kBf16;
  const AttentionShape shape = ShapeOf(node);
  return graph[node.inputs[0]].type.dtype == bf16 && graph[node.inputs[1]].type.dtype == bf16 &&
         node.type.dtype == bf16 && (shape.head_dim == 64 || shape.head_dim == 128) &&
         shape.heads % shape.kv_heads == 0 && shape.group() <= 8 && shape.group() * shape.head_dim <= 512;
}

int64_t FewestTiles(const ir::Graph& graph, const std::vector<ir::NodeId>& links) {
  int64_t fewest = INT32_MAX;
  for (const ir::NodeId id : links) {
    if (graph[id].op == Op::kMatmul) fewest = std::min(fewest, TilesOf(*matmul::ReadSpec(graph, id)));
  }
  return fewest;
}

// Where things lie in shared memory, and how much of it the links need besides the ring.
struct SharedLayout {
  int64_t chunk = 1024;  // of a row, in a stage
  int64_t stages = 0;
  int64_t meetings = 0;  // tiles of which sums may be on their way
  int64_t normed = 0, plain = 0, sums = 0, team = 0, links = 0, barriers = 0, stalled = 0, bytes = 0;

  int64_t StageBytes() const { return kTileRows * (chunk * 2 + 64); }
};

SharedLayout LayOut(const ir::Graph& graph, const std::vector<ir::NodeId>& links, int64_t most_stages) {
  SharedLayout layout;
  int64_t normed = 0, plain = 0, least_k = INT64_MAX;
  for (const ir::NodeId id : links) {
    if (graph[id].op == Op::kAttention) plain = std::max(plain, ShapeOf(graph[id]).ScratchBytes());
    if (graph[id].op != Op::kMatmul) continue;
    const Spec spec = *matmul::ReadSpec(graph, id);
    int64_t& place = PlaceOf(spec) == XPlace::kNormed ? normed : plain;
    place = std::max(place, StagedElements(spec, kWarps * 32) * 2);
    least_k = std::min(least_k, spec.k);
    if (spec.k % 1024 != 0) layout.chunk = 512;
  }
  for (layout.stages = most_stages; layout.stages >= kFewestStages; --layout.stages) {
    // Warps are ahead of each other by what the ring holds, in tiles of the shortest rows.
    layout.meetings = layout.stages / (least_k / layout.chunk) + 1;
    int64_t at = layout.stages * layout.StageBytes();
    const auto take = [&](int64_t bytes) {
      const int64_t begin = at;
      at = (at + bytes + 127) / 128 * 128;
      return begin;
    };
    layout.normed = take(normed);
    layout.plain = take(plain);
    layout.sums = take(layout.meetings * kWarps * kTileRows * 4);
    layout.team = take(kTeamScratchBytes);
    layout.links = take((kWarps + 1) * kLinkBytes);
    layout.barriers = take(2 * layout.stages * 8);
    layout.stalled = take(4);
    layout.bytes = at;
    if (layout.bytes <= kSharedBytes && layout.meetings <= kNamedBarriers - 2) break;
  }
  return layout;
}

// One link's text and record.
struct Link {
  std::string text;
  RegionLaunch launch;
};

RegionOperand WorkspaceOperand(int workspace, Access access) {
  return {.kind = RegionOperand::Kind::kWorkspace, .workspace = workspace, .access = access};
}

Link EmbeddingLink(const ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph[id];
  const ir::Type& table = graph[node.inputs[1]].type;
  Link link;
  link.text = fmt::format(
      "typedef {} TableElement;\ntypedef {} ResultElement;\nconstexpr i64 kVocab = {}, kWidth = {};\n",
      ElementName(table.dtype), ElementName(node.type.dtype), table.shape[0].size, table.shape[1].size);
  link.text += kEmbedding;
  link.launch.operands = {{.kind = RegionOperand::Kind::kIds},
                          {.node = node.inputs[1]},
                          {.node = id, .access = Access::kWrite},
                          WorkspaceOperand(kEpoch, Access::kReadWrite)};
  return link;
}

Link MatmulLink(const ir::Graph& graph, ir::NodeId id, const Target& target, const SharedLayout& layout,
                bool to_next_round, bool syncs_first) {
  const Spec spec = *matmul::ReadSpec(graph, id);
  const auto flagged = matmul::Handed::kFlagged;
  OperandList operands;
  matmul::AddStageOperands(spec, &operands);
  matmul::AddProductOperands(spec, &operands);
  if (spec.epilogue == Epilogue::kRotaryAppend)
    operands.Add("kFresh", WorkspaceOperand(kFresh, Access::kWrite));
  Link link;
  link.text = matmul::OpeningText(graph, spec, StagedElements(spec, kWarps * 32), flagged);
  link.text += operands.text();
  link.text += matmul::ColumnsText(spec);
  link.text += fmt::format(
      "constexpr int kRows = {}, kLists = {}, kXAt = {};\nconstexpr i64 kTiles = {};\n"
      "constexpr u32 kToNextRound = {};\nconstexpr bool kSyncsFirst = {};\n",
      RowsOfList(spec), matmul::Lists(spec), PlaceOf(spec) == XPlace::kNormed ? layout.normed : layout.plain,
      TilesOf(spec), to_next_round ? 1 : 0, syncs_first);
  link.text += TeamWords(kWarps * 32, layout.team, StageBody(spec, kFlaggedRow), "SyncConsumers()");
  link.text +=
      WarpWords(kFlaggedRuns + matmul::FinishText(spec, graph, target, matmul::Runs::kOfTheDialect, flagged) +
                matmul::ColumnTileText(spec));
  link.text += kMatmul;
  link.launch.operands = operands.operands();
  return link;
}

Link AttentionLink(const ir::Graph& graph, ir::NodeId id, const Target& target, const SharedLayout& layout,
                   int64_t few) {
  const ir::Node& node = graph[id];
  const AttentionShape shape = ShapeOf(node);
  OperandList operands;
  operands.AddNode("kQuery", node.inputs[0], Access::kRead);
  operands.Add("kKeys", {.kind = RegionOperand::Kind::kKeyCache});
  operands.Add("kValues", {.kind = RegionOperand::Kind::kValueCache});
  operands.AddNode("kResult", id, Access::kWrite);
  operands.Add("kFresh", WorkspaceOperand(kFresh, Access::kRead));
  operands.Add("kParts", WorkspaceOperand(kParts, Access::kReadWrite));
  Link link;
  link.text = operands.text();
  link.text += CachePrelude(CacheShapeOf(graph[node.inputs[1]].type, target));
  link.text += fmt::format(
      "typedef {} ResultElement;\nconstexpr int kGroup = {}, kScratchAt = {}, kMostParts = {}, kFew = {};\n"
      "constexpr float kScaleOfTwo = {:.9e}f;\n",
      ElementName(node.type.dtype), shape.group(), layout.plain, kMostParts, few,
      static_cast<float>(node.Real("scale") * 1.4426950408889634));
  link.text += kAttention;
  link.launch.operands = operands.operands();
  return link;
}

}  // namespace

bool CanPersist(const ir::Graph& graph, const Target& target) {
  // Bulk copies, and room for the ring.
  if (target.sm < 90 || target.sm >= 120) return false;
  const std::vector<ir::NodeId> links = LinksOf(graph);
  if (links.empty() || graph[links.front()].op != Op::kEmbedding) return false;
  int64_t attentions = 0, kv_heads = 0;
  XPlace before = XPlace::kNone;
  for (const ir::NodeId id : links) {
    const ir::Node& node = graph[id];
    if (node.op == Op::kMatmul) {
      const std::optional<Spec> spec = matmul::ReadSpec(graph, id);
      if (!spec || !CanLink(graph, *spec)) return false;
      before = PlaceOf(*spec);
    } else if (node.op == Op::kAttention) {
      // Its scratch is where plain multiplicands lie.
      if (before != XPlace::kNormed || !CanLinkAttention(graph, node)) return false;
      ++attentions;
      kv_heads = ShapeOf(node).kv_heads;
      before = XPlace::kNone;
    } else if (id != links.front()) {
      return false;
    }
  }
  return attentions == 1 && FewestTiles(graph, links) >= kv_heads &&
         LayOut(graph, links, DefaultSchedule().at("stages")).stages >= kFewestStages;
}

Schedule DefaultSchedule() {
  return {{"few", 512}, {"stages", 11}, {"window", 5}, {"stalled", 3}};
}

PersistentCode Generate(const ir::Graph& graph, const Target& target, const Schedule& schedule) {
  const std::vector<ir::NodeId> links = LinksOf(graph);
  const ir::Block& layers = LayersOf(graph);
  const SharedLayout layout = LayOut(graph, links, schedule.at("stages"));
  CHECK(layout.stages >= kFewestStages);
  PersistentCode code;
  code.regions = links;
  code.workspaces.resize(3);
  code.workspaces[kEpoch] = {{.fixed = 4}, Keeps::kYes};

  std::string bodies, produce, consume;
  int first_dependent = 0, last_of_layers = 0;
  for (size_t kind = 0; kind < links.size(); ++kind) {
    const ir::NodeId id = links[kind];
    const ir::Node& node = graph[id];
    Link link;
    if (node.op == Op::kEmbedding) {
      link = EmbeddingLink(graph, id);
    } else if (node.op == Op::kAttention) {
      link = AttentionLink(graph, id, target, layout, schedule.at("few"));
      first_dependent = static_cast<int>(kind);
      const AttentionShape shape = ShapeOf(node);
      code.workspaces[kFresh] = {{.fixed = 2 * shape.kv_heads * shape.head_dim * 4}, Keeps::kYes};
      code.workspaces[kParts] = {{.fixed = shape.PartWords() * 4}, Keeps::kYes};
    } else {
      const Spec spec = *matmul::ReadSpec(graph, id);
      const ir::Node& previous = graph[links[kind - 1]];
      const bool same_place =
          previous.op == Op::kMatmul && PlaceOf(*matmul::ReadSpec(graph, links[kind - 1])) == PlaceOf(spec);
      link = MatmulLink(graph, id, target, layout, id == layers.yield,
                        PlaceOf(spec) == XPlace::kPlain && same_place);
    }
    if (id == layers.yield) last_of_layers = static_cast<int>(kind);
    bodies += fmt::format("namespace link{} {{\n{}}}  // namespace link{}\n", kind, link.text, kind);
    produce += fmt::format("        case {0}: link{0}::Produce(&args, &producer); break;\n", kind);
    consume += fmt::format("      case {0}: link{0}::Consume(&args, &consumer); break;\n", kind);
    link.launch.entry = "step";
    link.launch.tiles.count = FewestTiles(graph, links);
    link.launch.blocks = {
        .threads = static_cast<int>(kWarps + 1) * 32, .blocks_per_sm = 1, .shared_bytes = layout.bytes};
    link.launch.link = static_cast<int>(kind) + 1;
    code.launches.push_back(std::move(link.launch));
  }

  code.source = CudaPrelude(target, tensor::DType::kBf16);
  code.source += fmt::format(
      "\nconstexpr int kWarps = {}, kStages = {}, kChunk = {}, kWindow = {}, kWindowStalled = {}, kMeetings "
      "= {};\n"
      "constexpr int kSumsAt = {}, kLinksAt = {}, kBarriersAt = {}, kStalledAt = {};\n"
      "constexpr u32 kRounds = {};  // of a step: tags\n"
      "constexpr int kFirstDependent = {}, kLastOfLayers = {};\n",
      kWarps, layout.stages, layout.chunk, schedule.at("window"), schedule.at("stalled"), layout.meetings,
      layout.sums, layout.links, layout.barriers, layout.stalled, layers.repeat + 1, first_dependent,
      last_of_layers);
  code.source += kWords;
  code.source += kRing;
  code.source += bodies;
  code.source += fmt::format(fmt::runtime(kKernel), produce, consume);
  return code;
}

}  // namespace preheat::codegen::cuda::persistent
