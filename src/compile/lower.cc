#include "compile/lower.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "codegen/buffers.h"
#include "eager/kernel_table.h"
#include "eager/lower.h"
#include "ir/printer.h"
#include "passes/plan_memory.h"

namespace preheat::compile {
namespace {

using base::ErrorKind;
using base::MakeError;
using ir::NodeId;
using ir::Op;
using program::Operand;

// Nodes that name a place and compute nothing.
bool IsPlace(Op op) {
  switch (op) {
    case Op::kIds:
    case Op::kWeight:
    case Op::kKvCache:
    case Op::kCarry:
    case Op::kAppendedCache:
      return true;
    default:
      return false;  // everything else computes
  }
}

std::vector<int64_t> ConstantShape(const ir::Type& type) {
  std::vector<int64_t> shape;
  for (const ir::Dim& dim : type.shape) {
    CHECK(dim.symbol == ir::Dim::Symbol::kNone);
    shape.push_back(dim.size);
  }
  return shape;
}

// The cache's type: that of the first KvCache node.
const ir::Node* FindCache(const ir::Graph& graph) {
  for (const ir::Block& block : graph.blocks) {
    for (NodeId id : block.nodes) {
      if (graph[id].op == Op::kKvCache) return &graph[id];
    }
  }
  return nullptr;
}

class Lowering {
 public:
  Lowering(const ir::Graph& graph, const LowerOptions& options) : graph_(graph), options_(options) {}

  LoweredStep Run() {
    DescribeProgram();
    if (options_.persistent) BeginPersistent();
    for (const ir::Block& block : graph_.blocks) ChooseSchedules(block);
    for (const ir::Block& block : graph_.blocks) PairProducts(block);
    for (const ir::Block& block : graph_.blocks) LowerBlock(block);
    step_.program = passes::PlanMemory(step_.program);
    return std::move(step_);
  }

 private:
  void DescribeProgram() {
    program::Program& program = step_.program;
    program.name = options_.name;
    program.target = options_.target.name;
    program.kind = options_.kind;
    program.max_rows = options_.shape.rows;
    program.logit_rows = options_.logit_rows;
    program.vocab_size = graph_[graph_.logits].type.shape.back().size;
    program.rotary = {.inv_freq = graph_.rotary.inv_freq, .scale = graph_.rotary.scale};
    program.layers = 0;
    for (const ir::Block& block : graph_.blocks) {
      if (block.repeats()) program.layers = block.first + block.repeat;
    }
    if (const ir::Node* cache = FindCache(graph_))
      program.kv = codegen::CacheLayout(cache->type, options_.target);
  }

  void LowerBlock(const ir::Block& block) {
    if (block.repeats()) BindCarried(block);
    step_.program.segments.push_back({.repeat = block.repeat, .first = block.first});
    for (NodeId id : block.nodes) {
      if (IsPlace(graph_[id].op)) continue;
      if (LowerLink(id)) continue;
      if (schedules_.contains(id)) {
        LowerRegion(id);
      } else {
        LowerBreak(id);
      }
    }
    if (step_.program.segments.back().launches.empty()) step_.program.segments.pop_back();
  }

  void ChooseSchedules(const ir::Block& block) {
    for (NodeId id : block.nodes) {
      if (IsPlace(graph_[id].op) || links_.contains(id)) continue;
      if (!codegen::CanCompile(graph_, id, options_.target)) continue;
      schedules_[id] = options_.schedule
                           ? options_.schedule(graph_, id)
                           : codegen::DefaultSchedule(graph_, id, options_.target, options_.shape);
    }
  }

  // Products that hand their results on, to all who normalise them or to none.
  void PairProducts(const ir::Block& block) {
    for (NodeId from : block.nodes) {
      if (graph_[from].op != Op::kMatmul || !schedules_.contains(from)) continue;
      std::map<NodeId, codegen::Schedule> paired;
      std::vector<codegen::Workspace> handed;
      const std::vector<NodeId> normalizers = codegen::NormalizersOf(graph_, from);
      codegen::Schedule schedule = schedules_.at(from);
      const bool all = std::ranges::all_of(normalizers, [&](NodeId to) {
        if (!schedules_.contains(to)) return false;
        paired[to] = schedules_.at(to);
        handed = codegen::HandOn(graph_, options_.target, from, &schedule, to, &paired[to]);
        return !handed.empty();
      });
      if (normalizers.empty() || !all) continue;
      const std::vector<int> buffers =
          AddWorkspaces(fmt::format("{}.handed", RegionName(graph_, normalizers.front())), handed);
      schedules_[from] = std::move(schedule);
      for (auto& [to, its] : paired) {
        schedules_[to] = std::move(its);
        handed_[to] = buffers;
      }
    }
  }

  // The value carried from round to round has one buffer: where it came from, where each round leaves it, and
  // where later blocks find it.
  void BindCarried(const ir::Block& block) {
    const int buffer = BufferOf(block.carried);
    if (graph_[block.yield].type == graph_[block.carried].type) buffers_[block.yield] = buffer;
    for (NodeId id : block.nodes) {
      if (graph_[id].op == Op::kCarry) buffers_[id] = buffer;
    }
    CheckCarriedIsReadBeforeYield(block);
  }

  // The result overwrites what was carried in, so nothing may read that later.
  void CheckCarriedIsReadBeforeYield(const ir::Block& block) {
    bool written = false;
    for (NodeId id : block.nodes) {
      for (NodeId input : graph_[id].inputs) {
        if (written && graph_[input].op == Op::kCarry) {
          throw MakeError(ErrorKind::kUnsupported,
                          "{}: a value carried over layers is read after the layer's result was made",
                          graph_.name);
        }
      }
      written = written || id == block.yield;
    }
  }

  // The regions of a persistent kernel are one unit; what they hand on are words, which keep their contents.
  void BeginPersistent() {
    const codegen::PersistentCode code =
        codegen::GeneratePersistent(graph_, options_.target, *options_.persistent);
    const std::vector<int> workspaces = AddWorkspaces("step", code.workspaces);
    for (NodeId id : code.regions) {
      if (id == graph_.logits || IsYield(id)) continue;
      const int64_t words = codegen::RowStride(graph_[id].type);
      buffers_[id] = AddBuffer(RegionName(graph_, id), {.fixed = words * 4});
      step_.program.buffers.back().slot = program::kOwnSlot;
    }
    for (size_t i = 0; i < code.regions.size(); ++i) {
      links_.emplace(code.regions[i], Link{code.launches[i], workspaces});
    }
    step_.units.push_back({.region = "step",
                           .node = code.regions.front(),
                           .schedule = *options_.persistent,
                           .source = code.source});
  }

  bool IsYield(NodeId id) const {
    return std::any_of(graph_.blocks.begin(), graph_.blocks.end(),
                       [&](const ir::Block& block) { return block.repeats() && block.yield == id; });
  }

  // False where the region is no link.
  bool LowerLink(NodeId id) {
    const auto link = links_.find(id);
    if (link == links_.end()) return false;
    auto& launches = step_.program.segments.back().launches;
    step_.units.front().launches.push_back({step_.program.segments.size() - 1, launches.size()});
    launches.push_back(Record(RegionName(graph_, id), link->second.launch, link->second.workspaces));
    return true;
  }

  std::vector<int> AddWorkspaces(const std::string& region,
                                 const std::vector<codegen::Workspace>& workspaces) {
    std::vector<int> buffers;
    for (const codegen::Workspace& workspace : workspaces) {
      buffers.push_back(AddBuffer(fmt::format("{}.workspace", region), workspace.extent));
      if (workspace.keeps == codegen::Keeps::kYes) step_.program.buffers.back().slot = program::kOwnSlot;
    }
    return buffers;
  }

  void LowerRegion(NodeId id) {
    const codegen::Schedule& schedule = schedules_.at(id);
    const codegen::RegionCode code = codegen::Generate(graph_, id, options_.target, options_.shape, schedule);
    const std::vector<int> workspaces = AddWorkspaces(RegionName(graph_, id), code.workspaces);
    RegionUnit unit = {
        .region = RegionName(graph_, id), .node = id, .schedule = schedule, .source = code.source};
    for (const codegen::RegionLaunch& launch : code.launches) {
      const size_t segment = step_.program.segments.size() - (launch.before_rounds ? 2 : 1);
      auto& launches = step_.program.segments[segment].launches;
      unit.launches.push_back({segment, launches.size()});
      launches.push_back(Record(unit.region, launch, workspaces));
    }
    step_.units.push_back(std::move(unit));
  }

  program::Launch Record(const std::string& region, const codegen::RegionLaunch& launch,
                         const std::vector<int>& workspaces) {
    program::Launch record = {.region = region,
                              .entry = launch.entry,
                              .stage_entry = launch.stage_entry,
                              .tiles = launch.tiles,
                              .chunk = launch.chunk,
                              .scratch_bytes = launch.scratch_bytes,
                              .blocks = launch.blocks,
                              .link = launch.link};
    record.tensor_maps = launch.tensor_maps;
    for (const codegen::RegionOperand& operand : launch.operands) {
      record.operands.push_back(ToOperand(operand, workspaces));
    }
    return record;
  }

  void LowerBreak(NodeId id) {
    const std::string text =
        fmt::format("{} : {}", ir::Info(graph_[id].op).text, ir::ToText(graph_[id].type));
    const char* library = options_.target.IsCuda() ? eager::kCardLibraryName : eager::kLibraryName;
    auto launch = eager::LowerBreak(graph_, id, library, [&](NodeId value) {
      const ir::Type& type = graph_[value].type;
      const bool dense = graph_[value].op == Op::kWeight || value == graph_.logits;
      return eager::Place{
          .operand = OperandOf(value, value == id ? Operand::Access::kWrite : Operand::Access::kRead),
          .dtype = type.dtype,
          .stride = dense ? type.shape.back().size : codegen::RowStride(type)};
    });
    if (!launch) {
      throw MakeError(ErrorKind::kUnsupported,
                      "{}: no compiled kernel and no library kernel runs this operation: {}",
                      options_.target.name, text);
    }
    step_.program.segments.back().launches.push_back(std::move(*launch));
    step_.breaks.push_back(text);
  }

  Operand ToOperand(const codegen::RegionOperand& operand, const std::vector<int>& workspaces) {
    using From = codegen::RegionOperand::Kind;
    switch (operand.kind) {
      case From::kNode:
        if (operand.next_round) {
          return {Operand::Kind::kWeight, WeightIndex(operand.node, program::kNextRound), operand.access};
        }
        return OperandOf(operand.node, operand.access);
      case From::kWorkspace:
        return {Operand::Kind::kBuffer, workspaces[static_cast<size_t>(operand.workspace)], operand.access};
      case From::kHanded:
        return {Operand::Kind::kBuffer, handed_.at(operand.node)[static_cast<size_t>(operand.workspace)],
                operand.access};
      case From::kKeyCache:
        return {Operand::Kind::kKeyCache, 0, operand.access};
      case From::kValueCache:
        return {Operand::Kind::kValueCache, 0, operand.access};
      case From::kRotary:
        return {Operand::Kind::kRotary, 0, operand.access};
      case From::kIds:
        return {Operand::Kind::kIds, 0, operand.access};
      case From::kState:
        return {Operand::Kind::kState, 0, operand.access};
      case From::kLogits:
        return {Operand::Kind::kLogits, 0, operand.access};
    }
    CHECK(false);
  }

  Operand OperandOf(NodeId id, Operand::Access access) {
    if (id == graph_.logits) return {Operand::Kind::kLogits, 0, access};
    if (graph_[id].op == Op::kIds) return {Operand::Kind::kIds, 0, access};
    if (graph_[id].op == Op::kWeight) return {Operand::Kind::kWeight, WeightIndex(id), access};
    return {Operand::Kind::kBuffer, BufferOf(id), access};
  }

  int WeightIndex(NodeId id, std::string_view round = program::kThisRound) {
    const ir::Node& node = graph_[id];
    program::Weight weight = {.name = program::FillHole(node.Text("name"), program::kThisRound, round),
                              .dtype = node.type.dtype,
                              .shape = ConstantShape(node.type)};
    auto& weights = step_.program.weights;
    for (size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] == weight) return static_cast<int>(i);
    }
    weights.push_back(std::move(weight));
    return static_cast<int>(weights.size()) - 1;
  }

  int BufferOf(NodeId id) {
    const auto found = buffers_.find(id);
    if (found != buffers_.end()) return found->second;
    const int buffer = AddBuffer(RegionName(graph_, id), codegen::BufferExtent(graph_[id].type));
    buffers_[id] = buffer;
    return buffer;
  }

  int AddBuffer(std::string name, const program::Extent& extent) {
    step_.program.buffers.push_back({.name = std::move(name), .extent = extent});
    return static_cast<int>(step_.program.buffers.size()) - 1;
  }

  const ir::Graph& graph_;
  const LowerOptions& options_;
  LoweredStep step_;
  std::map<NodeId, int> buffers_;
  std::map<NodeId, codegen::Schedule> schedules_;  // of the regions that are compiled one by one
  std::map<NodeId, std::vector<int>> handed_;      // buffers of what a region gets from an earlier one
  struct Link {
    codegen::RegionLaunch launch;
    std::vector<int> workspaces;
  };
  std::map<NodeId, Link> links_;  // regions of a persistent kernel
};

// The name of what the region computes, whichever its rows.
std::string OperationName(const ir::Graph& graph, NodeId node) {
  if (graph[node].op != Op::kMatmul) return std::string(ir::Info(graph[node].op).text);
  if (node == graph.logits) return "head";
  const std::string& epilogue = graph[node].Text("epilogue");
  if (epilogue == "rotary_append") return "qkv";
  if (epilogue == "silu_mul") return "gate_up";
  if (epilogue != "add") return "matmul";
  // Of the two residual matmuls of a layer the one behind attention is the output projection.
  const Op input = graph[graph[node].inputs[0]].op;
  return input == Op::kAttention || input == Op::kSplitAttention ? "attention_output" : "down";
}

}  // namespace

void PlaceCode(program::Program& program, const RegionUnit& unit, const std::string& hash) {
  for (const RegionUnit::Place& place : unit.launches) {
    program.segments[place.segment].launches[place.launch].code = hash;
  }
}

bool HasOneRow(const ir::Graph& graph, NodeId node) {
  return graph[node].type.shape[0] == ir::Dim::Of(1);
}

bool IsOfLastRow(const ir::Graph& graph, NodeId node) {
  const bool one = HasOneRow(graph, node) || graph[node].op == Op::kSplitAttention;
  return one && std::ranges::any_of(graph.blocks, [&](const ir::Block& block) {
           return block.repeats() && HasOneRow(graph, block.yield) && !HasOneRow(graph, block.carried) &&
                  std::ranges::count(block.nodes, node) > 0;
         });
}

std::string RegionName(const ir::Graph& graph, NodeId node) {
  if (IsOfLastRow(graph, node) && graph[node].op != Op::kLastRow) {
    return "last_" + OperationName(graph, node);
  }
  return OperationName(graph, node);
}

LoweredStep Lower(const ir::Graph& graph, const LowerOptions& options) {
  return Lowering(graph, options).Run();
}

}  // namespace preheat::compile
