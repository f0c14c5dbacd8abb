#include "codegen/cuda/persistent.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "abi/kernel_abi.h"
#include "base/check.h"
#include "base/error.h"
#include "codegen/buffers.h"
#include "codegen/cache_layout.h"
#include "codegen/cuda/machine.h"
#include "codegen/cuda/persistent_body.h"
#include "codegen/cuda/persistent_products.h"
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
constexpr auto kFlagged = matmul::Handed::kFlagged;

constexpr int64_t kWarps = 8, kTileRows = 8, kNamedBarriers = 16;
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

// A region of the kernel: the embedding, a product or attention.
struct Part {
  ir::NodeId node = ir::kNoNode;
  std::optional<Spec> product;
  std::optional<AttentionShape> attention;

  XPlace place() const { return product ? PlaceOf(*product) : XPlace::kNone; }
};

// What of the graph the kernel runs, in order: all but the sample behind the logits.
struct Plan {
  std::vector<Part> parts;
  size_t first_of_layers = 0, last_of_layers = 0;  // in parts
  int64_t layers = 0;
  size_t attention = 0;  // in parts
  int64_t fewest_tiles = INT32_MAX;

  const AttentionShape& attention_shape() const { return *parts[attention].attention; }
};

// The nodes that compute; a part has neither product nor attention where it is none that we link.
std::optional<Plan> PartsOf(const ir::Graph& graph) {
  Plan plan;
  for (const ir::Block& block : graph.blocks) {
    if (block.repeats()) {
      if (plan.layers > 0) return std::nullopt;
      plan.layers = block.repeat;
      plan.first_of_layers = plan.parts.size();
    }
    for (const ir::NodeId id : block.nodes) {
      const ir::Node& node = graph[id];
      switch (node.op) {
        case Op::kIds:
        case Op::kWeight:
        case Op::kKvCache:
        case Op::kCarry:
        case Op::kAppendedCache:
          continue;
        case Op::kSample:
          if (plan.layers == 0 || plan.parts.back().node != graph.logits) return std::nullopt;
          return plan;
        default:
          break;
      }
      Part& part = plan.parts.emplace_back();
      part.node = id;
      if (node.op == Op::kMatmul) part.product = matmul::ReadSpec(graph, id);
      if (node.op == Op::kAttention) part.attention = ShapeOf(node);
      if (block.repeats() && id == block.yield) plan.last_of_layers = plan.parts.size() - 1;
    }
  }
  return std::nullopt;
}

bool CanLink(const ir::Graph& graph, const Spec& spec) {
  const auto bf16 = tensor::DType::kBf16;
  const bool rows = std::all_of(spec.parts.begin(), spec.parts.end(), [&](const matmul::Part& part) {
    return part.columns % RowsOfList(spec) == 0;
  });
  const auto has_words = [&](ir::NodeId id) {
    const tensor::DType dtype = graph[id].type.dtype;
    return dtype == bf16 || dtype == tensor::DType::kF32;
  };
  return spec.one_row && spec.math == bf16 && spec.weight_dtype == bf16 && spec.k % 512 == 0 && rows &&
         spec.prologue != Prologue::kMerge && has_words(spec.x) && has_words(spec.node) &&
         (spec.residual == ir::kNoNode || has_words(spec.residual)) &&
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

// A buffer in shared memory serves multiplicands of one kind: normed ones are written when all threads have
// met, plain ones at once, and attention's scratch is where plain ones lie. So plain ones may follow nothing
// that reads them there.
bool MayFollow(const Part& part, const Part& before) {
  if (part.attention) return before.place() == XPlace::kNormed;
  return part.place() != XPlace::kPlain || before.place() != XPlace::kPlain;
}

// nullopt where the graph is none that one kernel runs.
std::optional<Plan> PlanOf(const ir::Graph& graph) {
  std::optional<Plan> plan = PartsOf(graph);
  if (!plan || graph[plan->parts.front().node].op != Op::kEmbedding) return std::nullopt;
  int attentions = 0;
  for (size_t i = 1; i < plan->parts.size(); ++i) {
    const Part& part = plan->parts[i];
    if (part.product && CanLink(graph, *part.product)) {
      plan->fewest_tiles = std::min(plan->fewest_tiles, TilesOf(*part.product));
    } else if (part.attention && CanLinkAttention(graph, graph[part.node])) {
      plan->attention = i;
      ++attentions;
    } else {
      return std::nullopt;
    }
    if (!MayFollow(part, plan->parts[i - 1])) return std::nullopt;
  }
  const tensor::DType embedded = graph[plan->parts.front().node].type.dtype;
  const bool has_words = embedded == tensor::DType::kBf16 || embedded == tensor::DType::kF32;
  const Part& yield = plan->parts[plan->last_of_layers];
  const bool fits =
      has_words && attentions == 1 && yield.product && MayFollow(plan->parts[plan->first_of_layers], yield);
  return fits ? plan : std::nullopt;
}

// Where things lie in shared memory, and how much of it the links need besides the ring.
struct SharedLayout {
  int64_t chunk = 1024;  // of a row, in a stage
  int64_t stages = 0;
  int64_t meetings = 0;  // tiles of which sums may be on their way
  int64_t normed = 0, plain = 0, sums = 0, team = 0, links = 0, barriers = 0, window = 0, bytes = 0;

  int64_t StageBytes() const { return kTileRows * (chunk * 2 + 64); }
};

// nullopt where there is no room for the stages that are needed at least: the window's, and those that warps
// are ahead of each other in attention, where a stage is of a few of them.
std::optional<SharedLayout> LayOut(const Plan& plan, const Target& target, const Schedule& schedule) {
  SharedLayout layout;
  int64_t normed = 0, plain = plan.attention_shape().ScratchBytes(), least_k = INT64_MAX;
  for (const Part& part : plan.parts) {
    if (!part.product) continue;
    int64_t& place = part.place() == XPlace::kNormed ? normed : plain;
    place = std::max(place, StagedElements(*part.product, kWarps * 32) * 2);
    least_k = std::min(least_k, part.product->k);
    if (part.product->k % 1024 != 0) layout.chunk = 512;
  }
  const int64_t steps_of_stage = layout.chunk / (2 * plan.attention_shape().head_dim);
  const int64_t window = std::max({schedule.at("window"), schedule.at("stalled"), schedule.at("normed")});
  const int64_t fewest = std::max(kFewestStages, window + kWarps / steps_of_stage);
  for (layout.stages = schedule.at("stages"); layout.stages >= fewest; --layout.stages) {
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
    layout.links = take((kWarps + 1) * static_cast<int64_t>(sizeof(ph_link)));
    layout.barriers = take(2 * layout.stages * 8);
    layout.window = take(4);
    layout.bytes = at;
    if (layout.bytes <= MostSharedBytes(target) && layout.meetings <= kNamedBarriers - 2) return layout;
  }
  return std::nullopt;
}

// One link's text and record.
struct Link {
  std::string text;
  RegionLaunch launch;
};

Link EmbeddingLink(const ir::Graph& graph, ir::NodeId id) {
  const ir::Node& node = graph[id];
  const ir::Type& table = graph[node.inputs[1]].type;
  Link link;
  link.text = fmt::format(
      "typedef {} TableElement;\ntypedef {} ResultElement;\nconstexpr i64 kVocab = {}, kWidth = {};\n",
      ElementName(table.dtype), ElementName(node.type.dtype), table.shape[0].size, table.shape[1].size);
  link.text += kEmbedding;
  link.launch.operands = {
      {.kind = RegionOperand::Kind::kIds},
      {.node = node.inputs[1]},
      {.node = id, .access = Access::kWrite},
      {.kind = RegionOperand::Kind::kWorkspace, .workspace = kEpoch, .access = Access::kReadWrite}};
  return link;
}

Link ProductLink(const ir::Graph& graph, const Spec& spec, const Target& target) {
  OperandList operands;
  matmul::AddStageOperands(spec, &operands);
  matmul::AddProductOperands(spec, &operands);
  if (spec.epilogue == Epilogue::kRotaryAppend) operands.AddWorkspace("kFresh", kFresh, Access::kWrite);
  Link link;
  link.text = matmul::OpeningText(graph, spec, StagedElements(spec, kWarps * 32), kFlagged);
  link.text += operands.text();
  link.text += matmul::ColumnsText(spec);
  link.text += fmt::format("constexpr int kRows = {}, kLists = {};\nconstexpr i64 kTiles = {};\n",
                           RowsOfList(spec), matmul::Lists(spec), TilesOf(spec));
  link.text += WarpWords(kFlaggedRuns +
                         matmul::FinishText(spec, graph, target, matmul::Runs::kOfTheDialect, kFlagged) +
                         matmul::ColumnTileText(spec));
  link.text += kProductLink;
  link.launch.operands = operands.operands();
  return link;
}

// How a product's multiplicands are staged. Products that do it alike have the same text.
std::string StageXOf(const ir::Graph& graph, const Spec& spec, const SharedLayout& layout,
                     const Schedule& schedule) {
  OperandList operands;
  matmul::AddStageOperands(spec, &operands);
  const bool normed = PlaceOf(spec) == XPlace::kNormed;
  return matmul::StageOpeningText(graph, spec, StagedElements(spec, kWarps * 32), kFlagged) +
         operands.text() +
         fmt::format("constexpr int kXAt = {}, kWindowMeanwhile = {};\n",
                     normed ? layout.normed : layout.plain, schedule.at(normed ? "normed" : "stalled")) +
         TeamWords(kWarps * 32, layout.team, StageBody(spec, kFlaggedRow), "SyncConsumers()") + kStageX;
}

Link AttentionLink(const ir::Graph& graph, ir::NodeId id, const Target& target, const SharedLayout& layout,
                   const Schedule& schedule) {
  const ir::Node& node = graph[id];
  const AttentionShape shape = ShapeOf(node);
  OperandList operands;
  operands.AddNode("kQuery", node.inputs[0], Access::kRead);
  operands.Add("kKeys", {.kind = RegionOperand::Kind::kKeyCache});
  operands.Add("kValues", {.kind = RegionOperand::Kind::kValueCache});
  operands.AddNode("kResult", id, Access::kWrite);
  operands.AddWorkspace("kFresh", kFresh, Access::kRead);
  operands.AddWorkspace("kParts", kParts, Access::kReadWrite);
  Link link;
  link.text = operands.text();
  link.text += CachePrelude(CacheShapeOf(graph[node.inputs[1]].type, target));
  link.text += fmt::format(
      "typedef {} ResultElement;\nconstexpr int kGroup = {}, kScratchAt = {}, kMostParts = {}, kFew = {};\n"
      "constexpr int kWindowMeanwhile = {};\n"
      "constexpr float kScaleOfTwo = {:.9e}f;\n",
      ElementName(node.type.dtype), shape.group(), layout.plain, kMostParts, schedule.at("few"),
      schedule.at("stalled"), static_cast<float>(node.Real("scale") * 1.4426950408889634));
  link.text += kAttention;
  link.launch.operands = operands.operands();
  return link;
}

}  // namespace

std::vector<Schedule> Schedules(const ir::Graph& graph, const Target& target) {
  if (target.sm < 90) return {};  // bulk copies
  const std::optional<Plan> plan = PlanOf(graph);
  if (!plan) return {};
  // How much under way hides the memory's latency, and how much disturbs the words, differs from card to
  // card.
  struct Window {
    int64_t window, stalled, normed;
  };
  constexpr Window kWindows[] = {{4, 3, 2}, {5, 3, 3}, {7, 4, 4}, {3, 2, 2}};
  std::vector<Schedule> schedules;
  for (const Window& window : kWindows) {
    Schedule schedule = {{"few", 512},
                         {"stages", 11},
                         {"window", window.window},
                         {"stalled", window.stalled},
                         {"normed", window.normed}};
    if (LayOut(*plan, target, schedule)) schedules.push_back(std::move(schedule));
  }
  return schedules;
}

PersistentCode Generate(const ir::Graph& graph, const Target& target, const Schedule& schedule) {
  const std::optional<Plan> plan = PlanOf(graph);
  CHECK(plan.has_value());
  const std::optional<SharedLayout> room = LayOut(*plan, target, schedule);
  if (!room) {
    throw base::MakeError(base::ErrorKind::kInvalidArgument, "no room for a ring of \"{}\" on {}",
                          ToText(schedule), target.name);
  }
  const SharedLayout& layout = *room;
  const AttentionShape& attention = plan->attention_shape();
  PersistentCode code;
  code.workspaces.resize(3);
  code.workspaces[kFresh] = {{.fixed = 2 * attention.kv_heads * attention.head_dim * 4}, Keeps::kYes};
  code.workspaces[kParts] = {{.fixed = attention.PartWords() * 4}, Keeps::kYes};
  code.workspaces[kEpoch] = {{.fixed = 8}, Keeps::kYes};

  std::string bodies, produce, consume;
  ProductsByLength products;
  for (size_t kind = 0; kind < plan->parts.size(); ++kind) {
    const Part& part = plan->parts[kind];
    Link link = part.product     ? ProductLink(graph, *part.product, target)
                : part.attention ? AttentionLink(graph, part.node, target, layout, schedule)
                                 : EmbeddingLink(graph, part.node);
    code.regions.push_back(part.node);
    bodies += Namespace(fmt::format("link{}", kind), link.text);
    produce += fmt::format("        case {0}: link{0}::Produce(&args, &producer); break;\n", kind);
    if (part.product) {
      products.Add(kind, part.product->k, StageXOf(graph, *part.product, layout, schedule));
    } else {
      consume += fmt::format("      case {0}: link{0}::Consume(&args, &consumer); break;\n", kind);
    }
    link.launch.entry = "step";
    link.launch.tiles.count = plan->fewest_tiles;
    link.launch.blocks = {
        .threads = static_cast<int>(kWarps + 1) * 32, .blocks_per_sm = 1, .shared_bytes = layout.bytes};
    link.launch.link = static_cast<int>(kind) + 1;
    code.launches.push_back(std::move(link.launch));
  }
  bodies += products.Text();
  consume += products.Cases();

  code.source = CudaPrelude(target, tensor::DType::kBf16);
  code.source += fmt::format(
      "\nconstexpr int kWarps = {}, kStages = {}, kChunk = {}, kWindow = {}, kMeetings "
      "= {};\n"
      "constexpr int kSumsAt = {}, kLinksAt = {}, kBarriersAt = {}, kWindowAt = {};\n"
      "constexpr u32 kRounds = {};  // of a step: tags\n"
      "constexpr int kAttention = {}, kLastOfLayers = {};\n",
      kWarps, layout.stages, layout.chunk, schedule.at("window"), layout.meetings, layout.sums, layout.links,
      layout.barriers, layout.window, plan->layers + 1, plan->attention, plan->last_of_layers);
  code.source += kWords;
  code.source += kRing;
  code.source += bodies;
  code.source += fmt::format(fmt::runtime(kKernel), produce, consume, plan->attention);
  return code;
}

}  // namespace preheat::codegen::cuda::persistent
