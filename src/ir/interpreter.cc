#include "ir/interpreter.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"
#include "ir/printer.h"
#include "ir/reference_math.h"
#include "ir/sample_reference.h"
#include "ir/verify.h"

namespace preheat::ir {
namespace {

using base::ErrorKind;
using base::MakeError;
using tensor::TensorView;

class Evaluation {
 public:
  Evaluation(const Graph& graph, const WeightProvider& weights, std::span<const int32_t> ids, KvState& cache,
             const StepOptions& options)
      : graph_(graph),
        weights_(weights),
        ids_(ids),
        cache_(cache),
        options_(options),
        past_(cache.positions),
        values_(graph.nodes.size()),
        views_(graph.nodes.size()) {}

  StepResult Run() {
    for (const Block& block : graph_.blocks) {
      if (!block.repeats()) {
        layer_ = -1;
        for (NodeId id : block.nodes) Execute(id);
        continue;
      }
      const int64_t end = block.first + block.repeat;
      if (cache_.layers.size() < static_cast<size_t>(end)) cache_.layers.resize(static_cast<size_t>(end));
      carried_ = Value(block.carried);
      for (layer_ = block.first; layer_ < end; ++layer_) {
        for (NodeId id : block.nodes) Execute(id);
        carried_ = Value(block.yield);
      }
    }
    cache_.positions = past_ + static_cast<int64_t>(ids_.size());
    const Matrix& logits = Value(graph_.logits);
    return {logits.data, logits.rows, logits.width, token_};
  }

 private:
  Matrix& Value(NodeId id) { return values_[static_cast<size_t>(id)]; }
  const Matrix& Input(const Node& node, size_t index) { return Value(node.inputs[index]); }
  const TensorView& Weight(const Node& node, size_t index) {
    return views_[static_cast<size_t>(node.inputs[index])];
  }
  // Of the first of a query's rows, which are the step's last.
  int64_t PositionOf(const Matrix& query) const {
    return past_ + static_cast<int64_t>(ids_.size()) - query.rows;
  }
  KvState::Layer& Layer() { return cache_.layers[static_cast<size_t>(layer_)]; }

  void Execute(NodeId id) {
    const Node& node = graph_[id];
    switch (node.op) {
      case Op::kIds:
      case Op::kKvCache:
      case Op::kAppendedCache:
        return;  // read where they are used
      case Op::kWeight:
        views_[static_cast<size_t>(id)] = LoadWeight(node);
        return;
      case Op::kCarry:
        Value(id) = carried_;
        return;
      case Op::kEmbedding:
        Value(id) = Embed(node);
        break;
      case Op::kRmsNorm:
        Value(id) = RmsNorm(Input(node, 0), Weight(node, 1), node.Real("eps"));
        break;
      case Op::kLinear:
        Value(id) =
            Linear(Input(node, 0), Weight(node, 1), node.inputs.size() == 3 ? &Weight(node, 2) : nullptr);
        break;
      case Op::kRotary:
        Value(id) = Rotate(Input(node, 0), graph_.rotary, node.Int("head_dim"), past_);
        break;
      case Op::kAppend:
        Append(node.inputs[0], Input(node, 1), Input(node, 2));
        return;
      case Op::kAttention:
        Value(id) = Attention(Input(node, 0), Layer().keys, Layer().values, ShapeOf(node),
                              PositionOf(Input(node, 0)));
        break;
      case Op::kSplitAttention:
        Value(id) = SplitAttention(Input(node, 0), Layer().keys, Layer().values, ShapeOf(node),
                                   PositionOf(Input(node, 0)), node.Int("block"));
        break;
      case Op::kAdd:
        Value(id) = Add(Input(node, 0), Input(node, 1));
        break;
      case Op::kMul:
        Value(id) = Mul(Input(node, 0), Input(node, 1));
        break;
      case Op::kSilu:
        Value(id) = Silu(Input(node, 0));
        break;
      case Op::kLastRow: {
        const Matrix& x = Input(node, 0);
        Matrix y(1, x.width);
        std::copy_n(x.Row(x.rows - 1).begin(), x.width, y.data.begin());
        Value(id) = std::move(y);
        break;
      }
      case Op::kProbe: {
        Value(id) = Input(node, 0);
        if (options_.probe) options_.probe({id, layer_, Value(id).data, Value(id).width});
        break;
      }
      case Op::kSample:
        Sample(Input(node, 0));
        return;
      case Op::kMatmul:
        Value(id) = Matmul(node);
        break;
    }
    RoundTo(node.type.dtype, Value(id).data);
  }

  TensorView LoadWeight(const Node& node) {
    const std::string& name = node.Text("name");
    TensorView view = weights_(name, layer_);
    std::vector<int64_t> expected;
    for (const Dim& dim : node.type.shape) expected.push_back(dim.size);
    if (view.dtype() != node.type.dtype || view.shape().extents() != expected) {
      throw MakeError(ErrorKind::kCorrupt,
                      "weight {}: found {} {}: the graph was made for {}; capture it again",
                      BindLayer(name, layer_), tensor::ShortName(view.dtype()), view.shape().ToString(),
                      ToText(node.type));
    }
    return view;
  }

  Matrix Embed(const Node& node) {
    const TensorView& table = Weight(node, 1);
    const int64_t vocab = table.shape()[0];
    Matrix y(static_cast<int64_t>(ids_.size()), table.shape()[1]);
    for (size_t row = 0; row < ids_.size(); ++row) {
      if (ids_[row] < 0 || ids_[row] >= vocab) {
        throw MakeError(ErrorKind::kInvalidArgument,
                        "token id {}: the vocabulary has {} tokens; use ids from 0 to {}", ids_[row], vocab,
                        vocab - 1);
      }
      table.ReadFloats(ids_[row] * y.width, y.Row(static_cast<int64_t>(row)));
    }
    return y;
  }

  // Writes the step's rows behind the past ones, rounded as the cache stores them.
  void Append(NodeId cache, const Matrix& k, const Matrix& v) {
    const auto store = [&](const Matrix& from, std::vector<float>& to) {
      const size_t begin = static_cast<size_t>(past_ * from.width);
      to.resize(begin);
      to.insert(to.end(), from.data.begin(), from.data.end());
      RoundTo(graph_[cache].type.dtype, std::span(to).subspan(begin));
    };
    store(k, Layer().keys);
    store(v, Layer().values);
  }

  static AttentionShape ShapeOf(const Node& node) {
    return {node.Int("heads"), node.Int("kv_heads"), node.Int("head_dim"), node.Real("scale")};
  }

  void Sample(const Matrix& logits) {
    ph_state greedy{};
    ph_state& state = options_.state == nullptr ? greedy : *options_.state;
    token_ = SampleToken(logits.data, state);
    state.token = *token_;
    ++state.steps;
  }

  // The same functions in the same order as the operations that were fused: prologue, products, epilogue.
  Matrix Matmul(const Node& node) {
    const std::string& prologue = node.Text("prologue");
    const std::string& epilogue = node.Text("epilogue");
    Matrix a;
    size_t next = 1;
    if (prologue == "rms_norm") {
      a = RmsNorm(Input(node, 0), Weight(node, next++), node.Real("eps"));
    } else if (prologue == "merge") {
      a = MergeSplits(Input(node, 0), graph_[node.inputs[0]].type.shape[1].size);
    } else {
      a = Input(node, 0);
    }
    if (node.Text("math") == "bf16") RoundTo(tensor::DType::kBf16, a.data);

    const size_t parts = static_cast<size_t>(node.Int("parts"));
    const bool bias = node.Int("bias") == 1;
    std::vector<Matrix> y;
    for (size_t part = 0; part < parts; ++part) {
      y.push_back(Linear(a, Weight(node, next + part), bias ? &Weight(node, next + parts + part) : nullptr));
    }
    if (epilogue == "add") return Add(y[0], Input(node, node.inputs.size() - 1));
    if (epilogue == "silu_mul") return Mul(Silu(y[0]), y[1]);
    if (epilogue == "rotary_append") {
      const int64_t head_dim = node.Int("head_dim");
      Append(node.inputs.back(), Rotate(y[1], graph_.rotary, head_dim, past_), y[2]);
      return Rotate(y[0], graph_.rotary, head_dim, past_);
    }
    return std::move(y[0]);
  }

  const Graph& graph_;
  const WeightProvider& weights_;
  const std::span<const int32_t> ids_;
  KvState& cache_;
  const StepOptions& options_;
  const int64_t past_;
  int64_t layer_ = -1;
  Matrix carried_;
  std::vector<Matrix> values_;     // by node: activations
  std::vector<TensorView> views_;  // by node: weights
  std::optional<int32_t> token_;
};

bool TakesOneRow(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op == Op::kIds && node.type.shape[0].symbol == Dim::Symbol::kNone;
  });
}

}  // namespace

std::string BindLayer(std::string_view name, int64_t layer) {
  std::string bound(name);
  const size_t at = bound.find("{}");
  if (at != std::string::npos) bound.replace(at, 2, fmt::format("{}", layer));
  return bound;
}

StepResult Interpret(const Graph& graph, const WeightProvider& weights, std::span<const int32_t> ids,
                     KvState& cache, const StepOptions& options) {
  Verify(graph);
  if (ids.empty()) {
    throw MakeError(ErrorKind::kInvalidArgument, "graph \"{}\": no token ids were given; give at least one",
                    graph.name);
  }
  if (ids.size() > 1 && TakesOneRow(graph)) {
    throw MakeError(ErrorKind::kInvalidArgument, "graph \"{}\": {} token ids for a decode step; give one",
                    graph.name, ids.size());
  }
  return Evaluation(graph, weights, ids, cache, options).Run();
}

}  // namespace preheat::ir
