// For tests: runs a program of library launches without a session, and a Llama graph as capture makes it.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/check.h"
#include "eager/module.h"
#include "ir/verify.h"
#include "program/program.h"

namespace preheat::eager {

class Runner {
 public:
  // The bytes of a tensor by its full name.
  using WeightAddress = std::function<const void*(const std::string& name)>;

  Runner(const Module& module, program::Program program, WeightAddress weights, int64_t capacity,
         int64_t max_rows)
      : module_(module), program_(std::move(program)), weights_(std::move(weights)), capacity_(capacity) {
    slots_.resize(static_cast<size_t>(program_.slots));
    for (const program::Buffer& buffer : program_.buffers) {
      auto& slot = slots_[static_cast<size_t>(buffer.slot)];
      const auto bytes = static_cast<size_t>(buffer.extent.Bytes(max_rows, capacity));
      if (slot.size() < bytes) slot.resize(bytes);
    }
    // Values that no kernel may rely on: 0xff is a NaN in every float type.
    for (auto& slot : slots_) std::memset(slot.data(), 0xff, slot.size());
    caches_.resize(static_cast<size_t>(program_.layers) * 2);
    for (size_t i = 0; i < caches_.size(); ++i) {
      const program::Extent& extent = i % 2 == 0 ? program_.kv.key_bytes : program_.kv.value_bytes;
      caches_[i].assign(static_cast<size_t>(extent.Bytes(0, capacity)), std::byte{0xff});
    }
    const size_t half = program_.rotary.inv_freq.size();
    rotary_.resize(static_cast<size_t>(capacity) * 2 * half);
    for (size_t position = 0; position < static_cast<size_t>(capacity); ++position) {
      for (size_t d = 0; d < half; ++d) {
        const float angle = static_cast<float>(position) * program_.rotary.inv_freq[d];
        rotary_[position * 2 * half + d] = std::cos(angle) * program_.rotary.scale;
        rotary_[position * 2 * half + half + d] = std::sin(angle) * program_.rotary.scale;
      }
    }
    logits_.resize(static_cast<size_t>(max_rows * program_.vocab_size));
    state.top_p = 1;
  }

  // The rows of logits that the step left.
  std::vector<float> Step(const std::vector<int32_t>& ids) {
    const auto rows = static_cast<int64_t>(ids.size());
    CHECK(past_ + rows <= capacity_);
    ids_ = ids;
    for (const program::Segment& segment : program_.segments) {
      for (int64_t layer = segment.first; layer < segment.first + segment.repeat; ++layer) {
        for (const program::Launch& launch : segment.launches) Run(launch, layer, rows);
      }
    }
    module_.ThrowIfFailed();
    past_ += rows;
    const int64_t logit_rows = program_.logit_rows == program::LogitRows::kAll ? rows : 1;
    return {logits_.begin(), logits_.begin() + logit_rows * program_.vocab_size};
  }

  void Reset() { past_ = 0; }

  ph_state state = {};

 private:
  void Run(const program::Launch& launch, int64_t layer, int64_t rows) {
    std::vector<void*> operands;
    for (const program::Operand& operand : launch.operands) operands.push_back(Address(operand, layer));
    const ph_args args = {.operands = operands.data(),
                          .constants = launch.constants.data(),
                          .rows = rows,
                          .past = past_,
                          .capacity = capacity_};
    module_.Resolve(launch.code, launch.entry)(&args, 0, launch.tiles.Tiles(rows, past_), nullptr);
  }

  void* Address(const program::Operand& operand, int64_t layer) {
    using Kind = program::Operand::Kind;
    const auto index = static_cast<size_t>(operand.index);
    switch (operand.kind) {
      case Kind::kWeight: {
        std::string name = program_.weights[index].name;
        if (const size_t hole = name.find("{}"); hole != std::string::npos) {
          name.replace(hole, 2, std::to_string(layer));
        }
        return const_cast<void*>(weights_(name));
      }
      case Kind::kBuffer:
        return slots_[static_cast<size_t>(program_.buffers[index].slot)].data();
      case Kind::kKeyCache:
        return caches_[static_cast<size_t>(layer) * 2].data();
      case Kind::kValueCache:
        return caches_[static_cast<size_t>(layer) * 2 + 1].data();
      case Kind::kRotary:
        return rotary_.data();
      case Kind::kIds:
        return ids_.data();
      case Kind::kState:
        return &state;
      case Kind::kLogits:
        return logits_.data();
        break;
    }
    return nullptr;
  }

  const Module& module_;
  program::Program program_;
  WeightAddress weights_;
  int64_t capacity_;
  int64_t past_ = 0;
  std::vector<std::vector<std::byte>> slots_;
  std::vector<std::vector<std::byte>> caches_;
  std::vector<float> rotary_;
  std::vector<int32_t> ids_;
  std::vector<float> logits_;
};

struct LlamaShape {
  int64_t hidden = 0, ffn = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  double eps = 1e-5;
  tensor::DType dtype = tensor::DType::kBf16;
  bool tied = true, attention_bias = false, mlp_bias = false;
  bool all_rows = false;  // logits of every row, and no sampling
  bool probe = false;     // a Probe on each layer's result
  ir::Rotary rotary;
};

inline ir::Graph LlamaGraph(const LlamaShape& shape) {
  using ir::Dim;
  using ir::NodeId;
  using ir::Op;
  ir::Graph g;
  g.name = "llama";
  g.rotary = shape.rotary;
  const auto add = [&](Op op, std::vector<NodeId> inputs,
                       std::map<std::string, ir::Attribute> attributes = {}) {
    return g.Add(ir::MakeNode(g, op, std::move(inputs), std::move(attributes)));
  };
  const auto weight = [&](const std::string& name, std::vector<Dim> dims) {
    return g.Add({Op::kWeight, {}, {{"name", name}}, {shape.dtype, std::move(dims)}});
  };
  const auto norm = [&](NodeId x, const std::string& name) {
    return add(Op::kRmsNorm, {x, weight(name, {Dim::Of(shape.hidden)})}, {{"eps", shape.eps}});
  };
  const auto linear = [&](NodeId x, const std::string& name, int64_t out, int64_t in, bool bias) {
    std::vector<NodeId> inputs = {x, weight(name + ".weight", {Dim::Of(out), Dim::Of(in)})};
    if (bias) inputs.push_back(weight(name + ".bias", {Dim::Of(out)}));
    return add(Op::kLinear, inputs);
  };
  const int64_t q_width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;

  g.blocks.push_back({.name = "embed"});
  const NodeId ids = g.Add({Op::kIds, {}, {}, {tensor::DType::kI32, {Dim::Rows()}}});
  const NodeId embedding =
      add(Op::kEmbedding,
          {ids, weight("model.embed_tokens.weight", {Dim::Of(shape.vocab), Dim::Of(shape.hidden)})});
  g.blocks.push_back({.name = "layers", .repeat = shape.layers, .carried = embedding});
  const std::string layer = "model.layers.{}.";
  const NodeId carry =
      g.Add({Op::kCarry, {}, {}, {tensor::DType::kF32, {Dim::Rows(), Dim::Of(shape.hidden)}}});
  const NodeId in = norm(carry, layer + "input_layernorm.weight");
  const bool ab = shape.attention_bias;
  NodeId q = linear(in, layer + "self_attn.q_proj", q_width, shape.hidden, ab);
  NodeId k = linear(in, layer + "self_attn.k_proj", kv_width, shape.hidden, ab);
  const NodeId v = linear(in, layer + "self_attn.v_proj", kv_width, shape.hidden, ab);
  q = add(Op::kRotary, {q}, {{"head_dim", shape.head_dim}});
  k = add(Op::kRotary, {k}, {{"head_dim", shape.head_dim}});
  const NodeId cache =
      g.Add({Op::kKvCache,
             {},
             {},
             {shape.dtype == tensor::DType::kBf16 ? tensor::DType::kBf16 : tensor::DType::kF32,
              {Dim::Of(2), Dim::Past(), Dim::Of(shape.kv_heads), Dim::Of(shape.head_dim)}}});
  const NodeId appended = add(Op::kAppend, {cache, k, v});
  const NodeId attention = add(Op::kAttention, {q, appended},
                               {{"heads", shape.heads},
                                {"kv_heads", shape.kv_heads},
                                {"head_dim", shape.head_dim},
                                {"scale", 1.0 / std::sqrt(static_cast<double>(shape.head_dim))}});
  const NodeId o = linear(attention, layer + "self_attn.o_proj", shape.hidden, q_width, ab);
  const NodeId middle = add(Op::kAdd, {carry, o});
  const NodeId post = norm(middle, layer + "post_attention_layernorm.weight");
  const NodeId gate = linear(post, layer + "mlp.gate_proj", shape.ffn, shape.hidden, shape.mlp_bias);
  const NodeId up = linear(post, layer + "mlp.up_proj", shape.ffn, shape.hidden, shape.mlp_bias);
  const NodeId product = add(Op::kMul, {add(Op::kSilu, {gate}), up});
  const NodeId down = linear(product, layer + "mlp.down_proj", shape.hidden, shape.ffn, shape.mlp_bias);
  NodeId result = add(Op::kAdd, {middle, down});
  if (shape.probe) result = add(Op::kProbe, {result});
  g.blocks.back().yield = result;

  g.blocks.push_back({.name = "head"});
  const NodeId last = shape.all_rows ? result : add(Op::kLastRow, {result});
  const NodeId final_norm = norm(last, "model.norm.weight");
  g.logits =
      linear(final_norm, shape.tied ? "model.embed_tokens" : "lm_head", shape.vocab, shape.hidden, false);
  if (!shape.all_rows) g.token = add(Op::kSample, {g.logits});
  ir::Verify(g);
  return g;
}

}  // namespace preheat::eager
