// ModelConfig: what a checkpoint's config.json says about a Llama, read from the spellings of transformers 4
// (rope_scaling, rope_theta, torch_dtype) and 5 (rope_parameters, dtype), and of older files (`type` for
// `rope_type`).
//
// Errors name the file, the field and the value found. kCorrupt: malformed JSON, a needed field missing, a
// wrong type, a size that no model has. kUnsupported: valid, but preheat does not compute it (another
// architecture, quantised weights, sliding windows, other rope types or activations). kNotFound: no such
// file. Needed are model_type, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
// vocab_size; the others have the defaults of transformers' LlamaConfig.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"

namespace preheat::checkpoint {

enum class RopeKind { kDefault, kLlama3 };

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  // kLlama3 only.
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 0;

  bool operator==(const RopeConfig&) const = default;
};

struct ModelConfig {
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  // divides num_attention_heads
  int64_t head_dim = 0;             // even; need not be hidden_size / num_attention_heads
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;        // on gate, up and down
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> pad_token_id;
  std::vector<int64_t> eos_token_ids;
  std::optional<tensor::DType> dtype;  // what the file says; the weights' own type is Checkpoint::dtype()

  int64_t q_size() const { return num_attention_heads * head_dim; }
  int64_t kv_size() const { return num_key_value_heads * head_dim; }
  // Elements of all weights; a tied head counts once.
  int64_t ParameterCount() const;

  bool operator==(const ModelConfig&) const = default;
};

// `file` stands in messages.
ModelConfig ParseModelConfig(std::string_view json, std::string_view file);
ModelConfig ReadModelConfig(const std::string& path);

// config.json as transformers 4 writes it; ParseModelConfig gives the same config back.
std::string ModelConfigToJson(const ModelConfig& config);

// What compiling depends on, a labelled line each: sizes, rope, eps, ties, biases. Not: element type (a part
// of its own in every key), token ids, and max_position_embeddings (a run-time bound).
std::string ConfigHashText(const ModelConfig& config);
// SHA-256 of that text, 64 hex digits.
std::string ConfigHash(const ModelConfig& config);

}  // namespace preheat::checkpoint
