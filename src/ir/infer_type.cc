// InferType: one case an operation. Shapes are checked against the shapes of the inputs only.
#include <cmath>
#include <limits>

#include "base/error.h"
#include "ir/printer.h"
#include "ir/verify.h"

namespace preheat::ir {
namespace {

using base::ErrorKind;
using base::MakeError;
using tensor::DType;

// No extent or attribute is larger, so that products of two of them cannot overflow.
constexpr int64_t kMaxExtent = int64_t{1} << 31;

[[noreturn]] void Fail(std::string_view what) {
  throw MakeError(ErrorKind::kCorrupt, "{}; correct the graph", what);
}

// A node with checked access to its inputs and attributes.
class Checked {
 public:
  Checked(const Graph& graph, const Node& node) : graph_(graph), node_(node) {
    const OpInfo& info = Info(node.op);
    const int count = static_cast<int>(node.inputs.size());
    if (count < info.min_inputs || count > info.max_inputs) {
      Fail(fmt::format("has {} inputs: expected {} to {}", count, info.min_inputs, info.max_inputs));
    }
  }

  int64_t Int(const char* name, int64_t least, int64_t most = kMaxExtent) const {
    const int64_t value = Get<int64_t>(name, "an integer");
    if (value < least || value > most) {
      Fail(fmt::format("has {} = {}: expected {} to {}", name, value, least, most));
    }
    return value;
  }
  double Real(const char* name) const {
    const double value = Get<double>(name, "a real number");
    if (!std::isfinite(value)) Fail(fmt::format("has {} = {}: expected a finite number", name, value));
    return value;
  }
  const std::string& Text(const char* name) const { return Get<std::string>(name, "a text"); }
  // No attributes but these, which the caller has read.
  void ExpectAttributes(size_t count) const {
    if (node_.attributes.size() != count) Fail("has attributes that its operation does not know");
  }

  size_t inputs() const { return node_.inputs.size(); }
  void ExpectInputs(size_t count) const {
    if (inputs() != count) Fail(fmt::format("has {} inputs: expected {}", inputs(), count));
  }
  const Node& Input(size_t index) const { return graph_[node_.inputs[index]]; }
  // The rows and the width of an activation [rows, width].
  struct Matrix {
    Dim rows;
    int64_t width;
  };
  Matrix Activation(size_t index) const {
    const Type& type = Input(index).type;
    if (Input(index).op == Op::kWeight)
      Fail(fmt::format("takes a weight as input {}: expected a value", index));
    if (!tensor::IsFloat(type.dtype) || type.shape.size() != 2 ||
        type.shape[1].symbol != Dim::Symbol::kNone ||
        (type.shape[0].symbol != Dim::Symbol::kRows && type.shape[0] != Dim::Of(1))) {
      Fail(fmt::format("has input {} of type {}: expected [n, width] or [1, width]", index, ToText(type)));
    }
    return {type.shape[0], type.shape[1].size};
  }
  // A weight of the checkpoint with `rank` extents.
  const Type& Weight(size_t index, size_t rank) const {
    if (Input(index).op != Op::kWeight) {
      Fail(fmt::format("has a {} as input {}: expected a weight", Info(Input(index).op).text, index));
    }
    const Type& type = Input(index).type;
    if (type.shape.size() != rank) {
      Fail(fmt::format("has a weight {} as input {}: expected {} extents", ToText(type), index, rank));
    }
    return type;
  }
  void ExpectExtent(size_t index, const Type& type, size_t axis, int64_t expected) const {
    if (type.shape[axis] != Dim::Of(expected)) {
      Fail(fmt::format("has input {} of type {}: expected extent {} on axis {}", index, ToText(type),
                       expected, axis));
    }
  }
  void ExpectSameShape(size_t index, const std::vector<Dim>& shape) const {
    if (Input(index).type.shape != shape) {
      Fail(fmt::format("has input {} of type {}: expected {}", index, ToText(Input(index).type),
                       ToText(Type{Input(index).type.dtype, shape})));
    }
  }
  // A cache as KvCache gives it, or, with `appended`, as Append leaves it.
  const Type& Cache(size_t index, bool appended) const {
    const Node& cache = Input(index);
    const bool fits =
        appended ? cache.op == Op::kAppend || cache.op == Op::kAppendedCache : cache.op == Op::kKvCache;
    if (!fits) {
      Fail(fmt::format("has a {} as input {}: expected {}", Info(cache.op).text, index,
                       appended ? "the cache after this step's rows were appended" : "kv_cache"));
    }
    return cache.type;
  }

 private:
  template <typename T>
  const T& Get(const char* name, const char* kind) const {
    const auto found = node_.attributes.find(name);
    if (found == node_.attributes.end()) Fail(fmt::format("has no attribute {}", name));
    const T* value = std::get_if<T>(&found->second);
    if (value == nullptr) Fail(fmt::format("has an attribute {} that is not {}", name, kind));
    return *value;
  }

  const Graph& graph_;
  const Node& node_;
};

Type F32(Dim rows, int64_t width) {
  return {DType::kF32, {rows, Dim::Of(width)}};
}

Type Appended(const Type& cache) {
  Type type = cache;
  type.shape[1] = Dim::Positions();
  return type;
}

int64_t RotaryHeadDim(const Graph& graph, const Checked& node, int64_t width) {
  const int64_t head_dim = node.Int("head_dim", 2);
  if (head_dim % 2 != 0 || width % head_dim != 0) {
    Fail(fmt::format("has head_dim = {} for {} columns: expected an even divisor", head_dim, width));
  }
  if (static_cast<int64_t>(graph.rotary.inv_freq.size()) != head_dim / 2) {
    Fail(fmt::format("turns {} pairs of a head, but the graph has {} rotary frequencies", head_dim / 2,
                     graph.rotary.inv_freq.size()));
  }
  return head_dim;
}

void CheckSource(const Node& node) {
  const std::vector<Dim>& shape = node.type.shape;
  for (const Dim& dim : shape) {
    if (dim.symbol == Dim::Symbol::kNone && (dim.size < 1 || dim.size > kMaxExtent)) {
      Fail(fmt::format("has type {}: expected extents from 1 to {}", ToText(node.type), kMaxExtent));
    }
  }
  const auto rows = [&](size_t axis) {
    return shape[axis].symbol == Dim::Symbol::kRows || shape[axis] == Dim::Of(1);
  };
  const auto fixed = [&](size_t axis) { return shape[axis].symbol == Dim::Symbol::kNone; };
  bool fits = false;
  if (node.op == Op::kIds) {
    fits = node.type.dtype == DType::kI32 && shape.size() == 1 && rows(0);
  } else if (node.op == Op::kWeight) {
    fits = tensor::IsFloat(node.type.dtype) && (shape.size() == 1 || shape.size() == 2);
    for (size_t axis = 0; axis < shape.size(); ++axis) fits = fits && fixed(axis);
  } else if (node.op == Op::kKvCache) {
    fits = tensor::IsFloat(node.type.dtype) && shape.size() == 4 && shape[0] == Dim::Of(2) &&
           shape[1] == Dim::Past() && fixed(2) && fixed(3);
  } else {  // Carry
    fits = node.type.dtype == DType::kF32 && shape.size() == 2 && rows(0) && fixed(1);
  }
  if (!fits) Fail(fmt::format("has type {}, which its operation cannot have", ToText(node.type)));
}

Type InferAttention(const Checked& node, bool split) {
  const int64_t heads = node.Int("heads", 1);
  const int64_t kv_heads = node.Int("kv_heads", 1);
  const int64_t head_dim = node.Int("head_dim", 1, kMaxExtent - 2);
  node.Real("scale");
  if (split) node.Int("block", 1);
  node.ExpectAttributes(split ? 5 : 4);
  if (heads % kv_heads != 0)
    Fail(fmt::format("has {} heads for {} kv_heads: expected a multiple", heads, kv_heads));
  const auto [rows, width] = node.Activation(0);
  if (width != heads * head_dim) Fail(fmt::format("has q of width {}: expected {}", width, heads * head_dim));
  const Type& cache = node.Cache(1, /*appended=*/true);
  if (cache.shape[2] != Dim::Of(kv_heads) || cache.shape[3] != Dim::Of(head_dim)) {
    Fail(fmt::format("has a cache {}: expected kv_heads {} and head_dim {}", ToText(cache), kv_heads,
                     head_dim));
  }
  if (!split) return F32(rows, width);
  if (rows != Dim::Of(1)) Fail("splits the positions of more than one row");
  return {DType::kF32, {Dim::Splits(), Dim::Of(heads), Dim::Of(head_dim + 2)}};
}

Type InferMatmul(const Graph& graph, const Checked& node) {
  const std::string& prologue = node.Text("prologue");
  const std::string& epilogue = node.Text("epilogue");
  const bool norm = prologue == "rms_norm";
  const bool merge = prologue == "merge";
  if (!norm && !merge && prologue != "none") Fail(fmt::format("has an unknown prologue \"{}\"", prologue));
  const bool rotary = epilogue == "rotary_append";
  const bool pair = epilogue == "silu_mul";
  const bool add = epilogue == "add";
  if (!rotary && !pair && !add && epilogue != "store")
    Fail(fmt::format("has an unknown epilogue \"{}\"", epilogue));
  const size_t parts = rotary ? 3 : pair ? 2 : 1;
  node.Int("parts", static_cast<int64_t>(parts), static_cast<int64_t>(parts));
  const bool bias = node.Int("bias", 0, 1) == 1;
  const std::string& math = node.Text("math");
  if (math != "f32" && math != "bf16") Fail(fmt::format("has an unknown math \"{}\"", math));
  if (norm) node.Real("eps");
  node.ExpectAttributes(5 + (norm ? 1 : 0) + (rotary ? 1 : 0));
  node.ExpectInputs(1 + (norm ? 1 : 0) + parts * (bias ? 2 : 1) + (add || rotary ? 1 : 0));

  Dim rows = Dim::Of(1);
  int64_t in = 0;
  if (merge) {
    const Node& split = node.Input(0);
    if (split.op != Op::kSplitAttention) Fail("merges what is not a split_attention");
    in = split.type.shape[1].size * (split.type.shape[2].size - 2);
  } else {
    const auto x = node.Activation(0);
    rows = x.rows;
    in = x.width;
  }
  size_t next = 1;
  if (norm) {
    node.ExpectExtent(next, node.Weight(next, 1), 0, in);
    ++next;
  }
  int64_t out[3] = {0, 0, 0};
  for (size_t part = 0; part < parts; ++part, ++next) {
    const Type& weight = node.Weight(next, 2);
    node.ExpectExtent(next, weight, 1, in);
    out[part] = weight.shape[0].size;
  }
  for (size_t part = 0; bias && part < parts; ++part, ++next) {
    node.ExpectExtent(next, node.Weight(next, 1), 0, out[part]);
  }
  if (pair && out[0] != out[1]) Fail(fmt::format("multiplies {} columns by {}", out[0], out[1]));
  if (add) {
    node.Activation(next);
    node.ExpectSameShape(next, {rows, Dim::Of(out[0])});
  }
  if (rotary) {
    const int64_t head_dim = RotaryHeadDim(graph, node, out[0]);
    const Type& cache = node.Cache(next, /*appended=*/false);
    const int64_t kv_width = cache.shape[2].size * cache.shape[3].size;
    if (cache.shape[3].size != head_dim || out[1] != kv_width || out[2] != kv_width) {
      Fail(fmt::format("appends {} and {} columns to a cache {}", out[1], out[2], ToText(cache)));
    }
  }
  return F32(rows, out[0]);
}

}  // namespace

Type InferType(const Graph& graph, const Node& raw) {
  const Checked node(graph, raw);
  switch (raw.op) {
    case Op::kIds:
    case Op::kKvCache:
    case Op::kCarry:
      node.ExpectAttributes(0);
      CheckSource(raw);
      return raw.type;
    case Op::kWeight:
      if (node.Text("name").empty()) Fail("has an empty name");
      node.ExpectAttributes(1);
      CheckSource(raw);
      return raw.type;
    case Op::kEmbedding: {
      node.ExpectAttributes(0);
      if (node.Input(0).op != Op::kIds) Fail("looks up what is not ids");
      return F32(node.Input(0).type.shape[0], node.Weight(1, 2).shape[1].size);
    }
    case Op::kRmsNorm: {
      node.Real("eps");
      node.ExpectAttributes(1);
      const auto [rows, width] = node.Activation(0);
      node.ExpectExtent(1, node.Weight(1, 1), 0, width);
      return F32(rows, width);
    }
    case Op::kLinear: {
      node.ExpectAttributes(0);
      const auto [rows, width] = node.Activation(0);
      const Type& weight = node.Weight(1, 2);
      node.ExpectExtent(1, weight, 1, width);
      if (node.inputs() == 3) node.ExpectExtent(2, node.Weight(2, 1), 0, weight.shape[0].size);
      return F32(rows, weight.shape[0].size);
    }
    case Op::kRotary: {
      const auto [rows, width] = node.Activation(0);
      RotaryHeadDim(graph, node, width);
      node.ExpectAttributes(1);
      return F32(rows, width);
    }
    case Op::kAppend: {
      node.ExpectAttributes(0);
      const Type& cache = node.Cache(0, /*appended=*/false);
      const Dim rows = node.Activation(1).rows;
      for (size_t index : {1, 2}) {
        node.Activation(index);
        node.ExpectSameShape(index, {rows, Dim::Of(cache.shape[2].size * cache.shape[3].size)});
      }
      return Appended(cache);
    }
    case Op::kAttention:
      return InferAttention(node, /*split=*/false);
    case Op::kSplitAttention:
      return InferAttention(node, /*split=*/true);
    case Op::kAdd:
    case Op::kMul: {
      node.ExpectAttributes(0);
      const auto [rows, width] = node.Activation(0);
      node.Activation(1);
      node.ExpectSameShape(1, node.Input(0).type.shape);
      return F32(rows, width);
    }
    case Op::kSilu: {
      node.ExpectAttributes(0);
      const auto [rows, width] = node.Activation(0);
      return F32(rows, width);
    }
    case Op::kLastRow:
      node.ExpectAttributes(0);
      return {node.Input(0).type.dtype, {Dim::Of(1), Dim::Of(node.Activation(0).width)}};
    case Op::kProbe:
      node.ExpectAttributes(0);
      node.Activation(0);
      return node.Input(0).type;
    case Op::kSample:
      node.ExpectAttributes(0);
      if (node.Activation(0).rows != Dim::Of(1)) Fail("samples from more than one row");
      return {DType::kI32, {Dim::Of(1)}};
    case Op::kMatmul:
      return InferMatmul(graph, node);
    case Op::kAppendedCache: {
      node.ExpectAttributes(0);
      const Node& matmul = node.Input(0);
      if (matmul.op != Op::kMatmul || matmul.Text("epilogue") != "rotary_append") {
        Fail("names the cache of what appends nothing");
      }
      return Appended(graph[matmul.inputs.back()].type);
    }
  }
  Fail("has an unknown operation");
}

Node MakeNode(const Graph& graph, Op op, std::vector<NodeId> inputs,
              std::map<std::string, Attribute> attributes) {
  Node node{op, std::move(inputs), std::move(attributes), {}};
  node.type = InferType(graph, node);
  return node;
}

}  // namespace preheat::ir
