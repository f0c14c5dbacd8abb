// The slow reference: what a graph means, computed node by node on one thread as ops.def says. Takes captured
// graphs and graphs after passes. fp32 values, sums in double; a value whose type is bf16 or f16 is rounded
// when it is stored. Everything else (generated code, eager libraries) is measured against this.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/kernel_abi.h"
#include "ir/graph.h"
#include "tensor/tensor_view.h"

namespace preheat::ir {

// The tensor that a Weight node names. `name` holds "{}" where it is the layer's; `layer` is -1 outside of
// layers.
using WeightProvider = std::function<tensor::TensorView(std::string_view name, int64_t layer)>;

// "model.layers.{}.x", 3 -> "model.layers.3.x".
std::string BindLayer(std::string_view name, int64_t layer);

// The keys and values of all layers: the conversation so far. Graphs of one model share it, whatever their
// passes.
struct KvState {
  struct Layer {
    std::vector<float> keys;    // [positions, kv_heads * head_dim], after rotation
    std::vector<float> values;  // [positions, kv_heads * head_dim]
  };
  std::vector<Layer> layers;
  int64_t positions = 0;
};

struct ProbeRows {
  NodeId node;
  int64_t layer;                // -1 outside of layers
  std::span<const float> rows;  // [count, width]
  int64_t width;
};

struct StepOptions {
  ph_state* state = nullptr;  // what Sample reads, and writes (token, steps); null: greedy
  std::function<void(const ProbeRows&)> probe = nullptr;
};

struct StepResult {
  std::vector<float> logits;  // [logit_rows, vocab]
  int64_t logit_rows = 0;
  int64_t vocab = 0;
  std::optional<int32_t> token;  // where the graph samples
};

// One step: `ids` follow what is in `cache`, which then holds them too.
// Errors: Corrupt where the graph does not verify or a weight has another shape or type than its node says,
// InvalidArgument for ids that the graph cannot take (none, more than one in a decode graph, outside the
// vocabulary), what `weights` throws.
StepResult Interpret(const Graph& graph, const WeightProvider& weights, std::span<const int32_t> ids,
                     KvState& cache, const StepOptions& options = {});

}  // namespace preheat::ir
