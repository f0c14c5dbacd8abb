#include "capture/llama.h"

#include <cmath>
#include <string>

#include "checkpoint/rope.h"
#include "ir/verify.h"

namespace preheat::capture {
namespace {

using checkpoint::ModelConfig;
using ir::Attribute;
using ir::Dim;
using ir::NodeId;
using ir::Op;
using program::LogitRows;
using tensor::DType;

const char kEmbeddingName[] = "model.embed_tokens.weight";
const char kHeadName[] = "lm_head.weight";

class Builder {
 public:
  Builder(const ModelConfig& config, const CaptureOptions& options) : config_(config), options_(options) {}

  ir::Graph Build() {
    graph_.name = options_.logit_rows == LogitRows::kLast ? "step" : "step_all_logits";
    graph_.rotary = {checkpoint::InvFreq(config_), checkpoint::RopeAttentionScaling(config_)};
    const NodeId embedded = Embed();
    const NodeId hidden = Layers(embedded);
    Head(hidden);
    ir::Verify(graph_);
    return std::move(graph_);
  }

 private:
  NodeId Make(Op op, std::vector<NodeId> inputs, std::map<std::string, Attribute> attributes = {}) {
    return graph_.Add(ir::MakeNode(graph_, op, std::move(inputs), std::move(attributes)));
  }
  NodeId Source(Op op, ir::Type type) { return graph_.Add({op, {}, {}, std::move(type)}); }
  NodeId Weight(std::string name, std::vector<Dim> shape) {
    return graph_.Add(
        {Op::kWeight, {}, {{"name", std::move(name)}}, {options_.weight_dtype, std::move(shape)}});
  }
  NodeId LayerWeight(const std::string& name, std::vector<Dim> shape) {
    return Weight("model.layers.{}." + name, std::move(shape));
  }
  NodeId Probed(NodeId x) { return options_.probe_layers ? Make(Op::kProbe, {x}) : x; }
  NodeId Norm(NodeId x, NodeId weight) {
    return Make(Op::kRmsNorm, {x, weight}, {{"eps", config_.rms_norm_eps}});
  }
  // A projection of the layer: `name`.weight [out, in] and, where the config says so, `name`.bias [out].
  NodeId Project(NodeId x, const std::string& name, int64_t out, bool bias) {
    const int64_t in = graph_[x].type.shape[1].size;
    std::vector<NodeId> inputs = {x, LayerWeight(name + ".weight", {Dim::Of(out), Dim::Of(in)})};
    if (bias) inputs.push_back(LayerWeight(name + ".bias", {Dim::Of(out)}));
    return Make(Op::kLinear, std::move(inputs));
  }

  NodeId Embed() {
    graph_.blocks.push_back({.name = "embed"});
    const NodeId ids = Source(Op::kIds, {DType::kI32, {Dim::Rows()}});
    const NodeId table = Weight(kEmbeddingName, {Dim::Of(config_.vocab_size), Dim::Of(config_.hidden_size)});
    return Probed(Make(Op::kEmbedding, {ids, table}));
  }

  NodeId Layers(NodeId embedded) {
    graph_.blocks.push_back({.name = "layers", .repeat = config_.num_hidden_layers, .carried = embedded});
    NodeId x = Source(Op::kCarry, graph_[embedded].type);
    x = Make(Op::kAdd, {x, SelfAttention(Norm(x, NormWeight("input_layernorm.weight")))});
    x = Make(Op::kAdd, {x, Mlp(Norm(x, NormWeight("post_attention_layernorm.weight")))});
    return graph_.blocks.back().yield = Probed(x);
  }
  NodeId NormWeight(const std::string& name) { return LayerWeight(name, {Dim::Of(config_.hidden_size)}); }

  NodeId SelfAttention(NodeId x) {
    const bool bias = config_.attention_bias;
    const int64_t heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads;
    const int64_t head_dim = config_.head_dim;
    const std::map<std::string, Attribute> rotary = {{"head_dim", head_dim}};
    const NodeId q = Make(Op::kRotary, {Project(x, "self_attn.q_proj", config_.q_size(), bias)}, rotary);
    const NodeId k = Make(Op::kRotary, {Project(x, "self_attn.k_proj", config_.kv_size(), bias)}, rotary);
    const NodeId v = Project(x, "self_attn.v_proj", config_.kv_size(), bias);
    const NodeId past =
        Source(Op::kKvCache, {DType::kF32, {Dim::Of(2), Dim::Past(), Dim::Of(kv_heads), Dim::Of(head_dim)}});
    const NodeId cache = Make(Op::kAppend, {past, k, v});
    const NodeId y = Make(Op::kAttention, {q, cache},
                          {{"heads", heads},
                           {"kv_heads", kv_heads},
                           {"head_dim", head_dim},
                           {"scale", 1 / std::sqrt(static_cast<double>(head_dim))}});
    return Project(y, "self_attn.o_proj", config_.hidden_size, bias);
  }

  NodeId Mlp(NodeId x) {
    const bool bias = config_.mlp_bias;
    const NodeId gate = Make(Op::kSilu, {Project(x, "mlp.gate_proj", config_.intermediate_size, bias)});
    const NodeId up = Project(x, "mlp.up_proj", config_.intermediate_size, bias);
    return Project(Make(Op::kMul, {gate, up}), "mlp.down_proj", config_.hidden_size, bias);
  }

  void Head(NodeId x) {
    graph_.blocks.push_back({.name = "head"});
    // The vocabulary is wide: a prompt's other rows would cost more here than in a whole layer.
    if (options_.logit_rows == LogitRows::kLast) x = Make(Op::kLastRow, {x});
    x = Probed(Norm(x, Weight("model.norm.weight", {Dim::Of(config_.hidden_size)})));
    const NodeId table = Weight(config_.tie_word_embeddings ? kEmbeddingName : kHeadName,
                                {Dim::Of(config_.vocab_size), Dim::Of(config_.hidden_size)});
    graph_.logits = Make(Op::kLinear, {x, table});
    if (options_.logit_rows == LogitRows::kLast) graph_.token = Make(Op::kSample, {graph_.logits});
  }

  const ModelConfig& config_;
  const CaptureOptions& options_;
  ir::Graph graph_;
};

}  // namespace

ir::Graph CaptureLlama(const ModelConfig& config, const CaptureOptions& options) {
  return Builder(config, options).Build();
}

}  // namespace preheat::capture
