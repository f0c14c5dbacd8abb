#include "ir/verify.h"

#include <cmath>

#include "base/error.h"
#include "ir/printer.h"

namespace preheat::ir {
namespace {

using base::Error;
using base::ErrorKind;
using base::MakeError;
using tensor::DType;

constexpr int64_t kMaxRepeat = 1 << 16;

class Verifier {
 public:
  explicit Verifier(const Graph& graph) : graph_(graph), visible_(graph.nodes.size(), false) {}

  void Run() {
    CheckRotary();
    for (const Block& block : graph_.blocks) {
      for (NodeId id : block.nodes) {
        if (!Exists(id)) Fail(fmt::format("block \"{}\" holds %{}, which does not exist", block.name, id));
      }
    }
    for (const Block& block : graph_.blocks) CheckBlock(block);
    if (placed_ != graph_.nodes.size()) {
      Fail(fmt::format("{} nodes are in no block", graph_.nodes.size() - placed_));
    }
    CheckResults();
  }

 private:
  [[noreturn]] void Fail(std::string_view what) const {
    throw MakeError(ErrorKind::kCorrupt, "graph \"{}\": {}; correct the graph", graph_.name, what);
  }
  [[noreturn]] void Fail(NodeId id, std::string_view what) const {
    Fail(fmt::format("{} {}", Describe(graph_, id), what));
  }
  bool Exists(NodeId id) const { return id >= 0 && static_cast<size_t>(id) < graph_.nodes.size(); }
  bool Visible(NodeId id) const { return Exists(id) && visible_[static_cast<size_t>(id)]; }

  void CheckRotary() const {
    for (float value : graph_.rotary.inv_freq) {
      if (!std::isfinite(value)) Fail("a rotary frequency is not finite");
    }
    if (!std::isfinite(graph_.rotary.scale)) Fail("the rotary scale is not finite");
  }

  void CheckBlock(const Block& block) {
    if (block.repeat < 1 || block.repeat > kMaxRepeat) {
      Fail(fmt::format("block \"{}\" repeats {} times: expected 1 to {}", block.name, block.repeat,
                       kMaxRepeat));
    }
    if (block.repeats()) {
      // Layers are what repeats: blocks of the same layers would share their KV cache and weights.
      if (block.first != layers_) {
        Fail(fmt::format("block \"{}\" repeats from layer {}: expected {}, behind those before it",
                         block.name, block.first, layers_));
      }
      layers_ += block.repeat;
      if (!Visible(block.carried)) {
        Fail(
            fmt::format("block \"{}\" carries %{}, which no earlier block gives", block.name, block.carried));
      }
    } else if (block.repeat != 1 || block.first != 0 || block.carried != kNoNode) {
      Fail(fmt::format("block \"{}\" repeats or carries but yields nothing", block.name));
    }
    int caches = 0;
    int carries = 0;
    for (NodeId id : block.nodes) {
      if (visible_[static_cast<size_t>(id)] || Hidden(id)) Fail(id, "stands in two places");
      CheckNode(block, id);
      visible_[static_cast<size_t>(id)] = true;
      ++placed_;
      caches += graph_[id].op == Op::kKvCache;
      carries += graph_[id].op == Op::kCarry;
      ids_ += graph_[id].op == Op::kIds;
      // One Ids makes n one number in the whole graph.
      if (ids_ > 1) Fail(id, "is the second ids of the graph");
    }
    if (caches > 1) Fail(fmt::format("block \"{}\" has more than one kv_cache", block.name));
    if (carries > 1) Fail(fmt::format("block \"{}\" has more than one carry", block.name));
    if (block.repeats()) CheckYield(block);
  }

  // A node of a repeated block that is behind us: placed, but not to be seen any more.
  bool Hidden(NodeId id) const {
    return static_cast<size_t>(id) < hidden_.size() && hidden_[static_cast<size_t>(id)];
  }

  void CheckYield(const Block& block) {
    if (!Visible(block.yield)) {
      Fail(fmt::format("block \"{}\" yields %{}, which is not there", block.name, block.yield));
    }
    // One round goes on to no other: it may leave another value than it found.
    if ((block.repeat > 1 && graph_[block.yield].type != graph_[block.carried].type) ||
        graph_[block.yield].type.dtype != DType::kF32) {
      Fail(block.yield, fmt::format("is yielded as {}, but the block carries {}",
                                    ToText(graph_[block.yield].type), ToText(graph_[block.carried].type)));
    }
    hidden_.resize(graph_.nodes.size(), false);
    for (NodeId id : block.nodes) {
      if (id == block.yield) continue;
      visible_[static_cast<size_t>(id)] = false;
      hidden_[static_cast<size_t>(id)] = true;
    }
  }

  void CheckNode(const Block& block, NodeId id) const {
    const Node& node = graph_[id];
    for (NodeId input : node.inputs) {
      if (!Visible(input)) Fail(id, fmt::format("reads %{}, which does not stand before it", input));
    }
    Type expected;
    try {
      expected = InferType(graph_, node);
    } catch (const Error& error) {
      throw Error(error.kind(),
                  fmt::format("graph \"{}\": {} {}", graph_.name, Describe(graph_, id), error.message()));
    }
    const bool narrowed = MayBeNarrow(node.op) && tensor::IsFloat(node.type.dtype);
    if (narrowed) expected.dtype = node.type.dtype;
    if (node.type != expected) {
      Fail(id, fmt::format("has type {}: expected {}", ToText(node.type), ToText(expected)));
    }
    if (node.op == Op::kWeight && !block.repeats() && node.Text("name").find("{}") != std::string::npos) {
      Fail(id, "names a layer's weight in a block that does not repeat");
    }
    if (node.op == Op::kKvCache && !block.repeats()) {
      Fail(id, "stands in a block that does not repeat over the layers");
    }
    if (node.op == Op::kKvCache && Users(graph_, id).size() > 1) Fail(id, "is read by more than one node");
    if (node.op == Op::kCarry && (!block.repeats() || node.type != graph_[block.carried].type)) {
      Fail(id, "has another type than what its block carries");
    }
  }

  // Activations are computed in fp32 and may be stored narrower.
  static bool MayBeNarrow(Op op) {
    switch (op) {
      case Op::kEmbedding:
      case Op::kRmsNorm:
      case Op::kLinear:
      case Op::kRotary:
      case Op::kAttention:
      case Op::kAdd:
      case Op::kMul:
      case Op::kSilu:
      case Op::kMatmul:
        return true;
      case Op::kIds:
      case Op::kWeight:
      case Op::kKvCache:
      case Op::kCarry:
      case Op::kAppend:
      case Op::kLastRow:
      case Op::kSample:
      case Op::kProbe:
      case Op::kAppendedCache:
      case Op::kSplitAttention:
        return false;
    }
    return false;
  }

  void CheckResults() const {
    if (!Visible(graph_.logits)) Fail(fmt::format("the logits, %{}, are not there", graph_.logits));
    const Type& logits = graph_[graph_.logits].type;
    if (logits.dtype != DType::kF32 || logits.shape.size() != 2) Fail(graph_.logits, "cannot be logits");
    if (graph_.token == kNoNode) return;
    if (!Visible(graph_.token) || graph_[graph_.token].op != Op::kSample) {
      Fail(fmt::format("the token, %{}, is not sampled", graph_.token));
    }
  }

  const Graph& graph_;
  std::vector<bool> visible_;
  std::vector<bool> hidden_;
  size_t placed_ = 0;
  int ids_ = 0;
  int64_t layers_ = 0;  // of the blocks behind us
};

}  // namespace

std::string Describe(const Graph& graph, NodeId id) {
  return fmt::format("%{} ({})", id, Info(graph[id].op).text);
}

void Verify(const Graph& graph) {
  Verifier(graph).Run();
}

}  // namespace preheat::ir
