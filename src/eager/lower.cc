#include "eager/lower.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "eager/kernel_table.h"
#include "eager/operation.h"
#include "ir/verify.h"

namespace preheat::eager {
namespace {

using program::Operand;
using tensor::DType;
using Kind = Operand::Kind;

// Rows as the descriptor writes them: 0 for the step's.
int64_t DescriptorRows(const ir::Type& type) {
  return type.shape[0].symbol == ir::Dim::Symbol::kNone ? type.shape[0].size : 0;
}

// {dtype, rows, columns, stride} of a matrix, or of a vector as one row.
std::vector<int64_t> Descriptor(const ir::Type& type, DType dtype, int64_t stride) {
  const int64_t rows = type.shape.size() == 1 ? 1 : DescriptorRows(type);
  return {static_cast<int64_t>(dtype), rows, type.shape.back().size, stride};
}

class Lowering {
 public:
  Lowering(const ir::Graph& graph, const LowerOptions& options) : graph_(graph), options_(options) {
    for (size_t b = 0; b < graph.blocks.size(); ++b) {
      for (const ir::NodeId id : graph.blocks[b].nodes) block_of_[id] = b;
    }
  }

  program::Program Run() {
    program_.name = options_.name;
    program_.target = options_.target;
    program_.max_rows = options_.max_rows;
    program_.kind = options_.max_rows == 1 ? program::StepKind::kDecode : program::StepKind::kPrefill;
    program_.rotary = {graph_.rotary.inv_freq, graph_.rotary.scale};
    SetLogits();
    for (size_t b = 0; b < graph_.blocks.size(); ++b) LowerBlock(b);
    program_.slots = slots_;
    return std::move(program_);
  }

 private:
  void SetLogits() {
    const ir::Type& type = graph_[graph_.logits].type;
    program_.vocab_size = type.shape[1].size;
    program_.logit_rows =
        type.shape[0].symbol == ir::Dim::Symbol::kRows ? program::LogitRows::kAll : program::LogitRows::kLast;
  }

  // The residual stream and the logits are f32: what the former adds up over the layers must not be rounded
  // each time.
  DType StoredType(ir::NodeId id) const {
    const ir::Node& node = graph_[id];
    switch (node.op) {
      case ir::Op::kEmbedding:
      case ir::Op::kCarry:
      case ir::Op::kAdd:
        return DType::kF32;
      case ir::Op::kLastRow:
      case ir::Op::kProbe:
        return StoredType(node.inputs[0]);
      case ir::Op::kLinear:
        return id == graph_.logits ? DType::kF32 : options_.activations;
      default:
        return options_.activations;  // the rest of ops.def computes between two of the above
    }
  }

  int AddBuffer(ir::NodeId id, int slot) {
    const ir::Type& type = graph_[id].type;
    const int64_t row_bytes = type.shape.back().size * static_cast<int64_t>(tensor::Bytes(StoredType(id)));
    program::Extent extent;
    (DescriptorRows(type) == 0 ? extent.per_row : extent.fixed) =
        std::max<int64_t>(1, DescriptorRows(type)) * row_bytes;
    program_.buffers.push_back(
        {std::string(ir::Info(graph_[id].op).text) + "_" + std::to_string(id), extent, slot});
    return static_cast<int>(program_.buffers.size()) - 1;
  }

  int WeightIndex(ir::NodeId id) {
    const ir::Node& node = graph_[id];
    program::Weight weight{node.Text("name"), node.type.dtype, {}};
    for (const ir::Dim& dim : node.type.shape) weight.shape.push_back(dim.size);
    const auto found = std::find(program_.weights.begin(), program_.weights.end(), weight);
    if (found != program_.weights.end()) return static_cast<int>(found - program_.weights.begin());
    program_.weights.push_back(std::move(weight));
    return static_cast<int>(program_.weights.size()) - 1;
  }

  int FreshSlot() {
    if (free_.empty()) return slots_++;
    const int slot = *free_.begin();
    free_.erase(free_.begin());
    return slot;
  }

  // Read outside of the block that makes it, other than as the next round's Carry.
  bool OutlivesBlock(ir::NodeId id) const {
    for (const ir::NodeId user : ir::Users(graph_, id)) {
      if (block_of_.at(user) != block_of_.at(id)) return true;
    }
    return std::any_of(graph_.blocks.begin(), graph_.blocks.end(),
                       [id](const ir::Block& block) { return block.carried == id; });
  }

  // The position in the block after which the value is not needed.
  size_t LastUse(const ir::Block& block, ir::NodeId id) const {
    const std::vector<ir::NodeId> users = ir::Users(graph_, id);
    size_t last = 0;
    for (size_t i = 0; i < block.nodes.size(); ++i) {
      const bool used = std::find(users.begin(), users.end(), block.nodes[i]) != users.end();
      if (used || block.nodes[i] == id) last = i;
    }
    return last;
  }

  void LowerBlock(size_t index) {
    const ir::Block& block = graph_.blocks[index];
    const bool repeats = block.repeats();
    ir::NodeId carry = ir::kNoNode;
    for (const ir::NodeId id : block.nodes) {
      if (graph_[id].op == ir::Op::kCarry) carry = id;
      if (graph_[id].op == ir::Op::kKvCache) SetCache(graph_[id].type, block.first + block.repeat);
    }
    if (repeats && carry != ir::kNoNode) StartCarry(block.carried, carry);

    program::Segment segment = {.repeat = block.repeat, .first = block.first};
    bool in_place = false;
    for (size_t i = 0; i < block.nodes.size(); ++i) {
      const ir::NodeId id = block.nodes[i];
      if (IsSource(graph_[id].op)) continue;
      if (MakesBuffer(id)) {
        in_place = in_place || (id == block.yield && MayOverwrite(block, i, carry));
        const bool is_carry = id == block.yield && in_place;
        buffers_[id] = is_carry ? buffers_.at(carry) : AddBuffer(id, FreshSlot());
      }
      segment.launches.push_back(LaunchOf(id));
      FreeSlotsAfter(block, i);
    }
    if (repeats && carry != ir::kNoNode) {
      if (!in_place) segment.launches.push_back(CopyLaunch(carry, block.yield));
      buffers_[block.yield] = buffers_.at(carry);
    }
    if (!segment.launches.empty()) program_.segments.push_back(std::move(segment));
  }

  // The carried value lies in one buffer for all rounds. The value of the first round is made there, or
  // copied where something else needs it later.
  void StartCarry(ir::NodeId carried, ir::NodeId carry) {
    const size_t block = block_of_.at(carried);
    const bool free = !graph_.blocks[block].repeats() && graph_[carried].op != ir::Op::kCarry &&
                      ir::Users(graph_, carried).empty() && carried != graph_.logits;
    if (free) {
      buffers_[carry] = buffers_.at(carried);
      return;
    }
    buffers_[carry] = AddBuffer(carry, FreshSlot());
    program_.segments.push_back({1, {CopyLaunch(carry, carried)}});
  }

  // True where the yield may be written over the value that came in: it is made element by element, and
  // nothing reads the old value afterwards.
  bool MayOverwrite(const ir::Block& block, size_t index, ir::NodeId carry) const {
    const ir::NodeId id = block.nodes[index];
    const ir::Op op = graph_[id].op;
    return carry != ir::kNoNode && (op == ir::Op::kAdd || op == ir::Op::kMul) &&
           StoredType(id) == StoredType(carry) && LastUse(block, carry) <= index;
  }

  bool MakesBuffer(ir::NodeId id) const {
    return id != graph_.logits && graph_[id].op != ir::Op::kAppend && graph_[id].op != ir::Op::kSample;
  }

  void FreeSlotsAfter(const ir::Block& block, size_t index) {
    for (size_t i = 0; i <= index; ++i) {
      const ir::NodeId id = block.nodes[i];
      if (IsSource(graph_[id].op) || !MakesBuffer(id) || freed_.count(id) != 0) continue;
      if (id == block.yield || OutlivesBlock(id) || LastUse(block, id) > index) continue;
      freed_.insert(id);
      free_.insert(program_.buffers[static_cast<size_t>(buffers_.at(id))].slot);
    }
  }

  void SetCache(const ir::Type& cache, int64_t layers) {
    const int64_t width = cache.shape[2].size * cache.shape[3].size;
    const auto bytes = width * static_cast<int64_t>(tensor::Bytes(options_.activations));
    program_.kv = {.name = "eager-" + std::string(tensor::ShortName(options_.activations)),
                   .position_block = 1,
                   .key_bytes = {.per_position = bytes},
                   .value_bytes = {.per_position = bytes}};
    program_.layers = layers;
  }

  // Where an operand lies, its type and its row stride.
  Place PlaceOf(const OperationOperand& wanted) {
    const auto type = [&]() -> const ir::Type& {
      CHECK(wanted.node != ir::kNoNode);
      return graph_[wanted.node].type;
    };
    switch (wanted.kind) {
      case Kind::kWeight:
        return {{Kind::kWeight, WeightIndex(wanted.node), Operand::Access::kRead},
                type().dtype,
                type().shape.back().size};
      case Kind::kBuffer:
      case Kind::kLogits:
        if (wanted.node == graph_.logits) {
          return {{Kind::kLogits, 0, wanted.access}, DType::kF32, type().shape.back().size};
        }
        return {{Kind::kBuffer, buffers_.at(wanted.node), wanted.access},
                StoredType(wanted.node),
                type().shape.back().size};
      case Kind::kKeyCache:
      case Kind::kValueCache:
        return {{wanted.kind, 0, wanted.access}, options_.activations, type().shape[3].size};
      case Kind::kIds:
        return {{wanted.kind, 0, wanted.access}, DType::kI32, 1};
      case Kind::kRotary:
        return {{wanted.kind, 0, wanted.access}, DType::kF32, 0};
      case Kind::kState:
        return {{wanted.kind, 0, wanted.access}, DType::kI32, 0};
    }
    CHECK(false);
    return {};
  }

  program::Launch LaunchOf(ir::NodeId id) {
    const auto operation = OperationOf(graph_, id);
    if (!operation) {
      throw base::MakeError(
          base::ErrorKind::kUnsupported,
          "eager execution: operation {} ({}) has no library kernel; lower the graph as captured",
          ir::Info(graph_[id].op).text, graph_.name);
    }
    return MakeLaunch(*operation, graph_);
  }

  program::Launch CopyLaunch(ir::NodeId to, ir::NodeId from) {
    return MakeLaunch(Operation{"copy",
                                {{Kind::kBuffer, to, Operand::Access::kWrite},
                                 {Kind::kBuffer, from, Operand::Access::kRead}},
                                {}},
                      graph_);
  }

  program::Launch MakeLaunch(const Operation& operation, const ir::Graph& graph);

  const ir::Graph& graph_;
  const LowerOptions& options_;
  program::Program program_;
  std::map<ir::NodeId, size_t> block_of_;
  std::map<ir::NodeId, int> buffers_;  // value -> index into the program's buffers
  std::set<ir::NodeId> freed_;
  std::set<int> free_;
  int slots_ = 0;
};

// `place` is asked for each operand in turn.
template <typename PlaceFunction>
program::Launch BuildLaunch(const ir::Graph& graph, const Operation& operation, std::string_view library,
                            PlaceFunction place) {
  program::Launch launch;
  launch.region = operation.entry;
  launch.code = std::string(program::kLibraryPrefix) + std::string(library);
  launch.entry = operation.entry;
  for (const OperationOperand& wanted : operation.operands) {
    const Place where = place(wanted);
    launch.operands.push_back(where.operand);
    std::vector<int64_t> descriptor = {static_cast<int64_t>(where.dtype), 0, 0, where.stride};
    if (wanted.kind == Kind::kKeyCache || wanted.kind == Kind::kValueCache) {
      const ir::Type& cache = graph[wanted.node].type;
      descriptor = {static_cast<int64_t>(where.dtype), cache.shape[2].size, cache.shape[3].size,
                    where.stride};
    } else if (wanted.kind == Kind::kIds) {
      descriptor = {static_cast<int64_t>(where.dtype), 0, 1, 1};
    } else if (wanted.node != ir::kNoNode) {
      descriptor = Descriptor(graph[wanted.node].type, where.dtype, where.stride);
    }
    launch.constants.insert(launch.constants.end(), descriptor.begin(), descriptor.end());
  }
  launch.constants.insert(launch.constants.end(), operation.numbers.begin(), operation.numbers.end());
  return launch;
}

program::Launch Lowering::MakeLaunch(const Operation& operation, const ir::Graph& graph) {
  return BuildLaunch(graph, operation, kLibraryName,
                     [this](const OperationOperand& wanted) { return PlaceOf(wanted); });
}

}  // namespace

DType ActivationType(DType weights, bool multiplies_bf16) {
  return weights == DType::kBf16 && multiplies_bf16 ? DType::kBf16 : DType::kF32;
}

program::Program LowerEager(const ir::Graph& captured, const LowerOptions& options) {
  return Lowering(captured, options).Run();
}

std::optional<program::Launch> LowerBreak(const ir::Graph& graph, ir::NodeId node, std::string_view library,
                                          const std::function<Place(ir::NodeId)>& place) {
  if (IsSource(graph[node].op)) return std::nullopt;
  if (library == kCardLibraryName && graph[node].op != ir::Op::kLinear) return std::nullopt;
  const auto operation = OperationOf(graph, node);
  if (!operation) return std::nullopt;
  for (const OperationOperand& operand : operation->operands) {
    if (operand.kind == Kind::kKeyCache || operand.kind == Kind::kValueCache) return std::nullopt;
  }
  return BuildLaunch(graph, *operation, library, [&](const OperationOperand& wanted) {
    switch (wanted.kind) {
      case Kind::kIds:
        return Place{{Kind::kIds, 0, wanted.access}, DType::kI32, 1};
      case Kind::kRotary:
        return Place{{Kind::kRotary, 0, wanted.access}, DType::kF32, 0};
      case Kind::kState:
        return Place{{Kind::kState, 0, wanted.access}, DType::kI32, 0};
      case Kind::kWeight:
      case Kind::kBuffer:
      case Kind::kKeyCache:
      case Kind::kValueCache:
      case Kind::kLogits:
        break;
    }
    Place where = place(wanted.node);
    where.operand.access = wanted.access;
    return where;
  });
}

}  // namespace preheat::eager
