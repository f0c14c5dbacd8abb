#include "checkpoint/config.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/json_fields.h"
#include "sys/files.h"

namespace preheat::checkpoint {
namespace {

// Larger than any model by two orders of magnitude, small enough that no product of two sizes nears 2^63.
constexpr int64_t kLargestWidth = int64_t{1} << 22;  // hidden, intermediate, heads x head_dim
constexpr int64_t kLargestLayers = 1 << 12;
constexpr int64_t kLargestHeads = 1 << 16;
constexpr int64_t kLargestHeadDim = 1 << 14;
constexpr int64_t kLargestVocab = int64_t{1} << 26;
constexpr int64_t kLargestPositions = int64_t{1} << 31;
// A real config.json has a kilobyte.
constexpr uint64_t kLargestConfigBytes = uint64_t{16} << 20;

void CheckArchitecture(const JsonFields& fields) {
  const std::optional<std::string> model_type = fields.Text("model_type");
  if (!model_type) fields.FailMissing("model_type");
  if (*model_type != "llama") fields.FailUnsupported("model_type", "preheat runs \"llama\" models");
  const rapidjson::Value* architectures = fields.Find("architectures");
  if (architectures == nullptr) return;
  if (!architectures->IsArray()) fields.FailField("architectures", "a list of names belongs there");
  for (const rapidjson::Value& name : architectures->GetArray()) {
    if (!name.IsString()) fields.FailField("architectures", "a list of names belongs there");
    const std::string_view text(name.GetString(), name.GetStringLength());
    if (text == "LlamaForCausalLM") continue;
    throw base::MakeError(
        base::ErrorKind::kUnsupported,
        "{}: field \"architectures\" names \"{}\": not supported; preheat runs LlamaForCausalLM",
        fields.file(), text);
  }
}

// Fields that change what a Llama computes, in ways that preheat does not.
void CheckNothingUnsupported(const JsonFields& fields) {
  for (const char* name : {"quantization_config", "compression_config"}) {
    if (fields.Has(name)) fields.FailUnsupported(name, "use a checkpoint in bfloat16, float16 or float32");
  }
  if (fields.Has("sliding_window") && fields.Boolean("use_sliding_window").value_or(true)) {
    fields.FailUnsupported("sliding_window", "preheat computes full attention only");
  }
  if (const rapidjson::Value* types = fields.Find("layer_types")) {
    const bool all_full = types->IsArray() && std::all_of(types->Begin(), types->End(), [](const auto& type) {
                            return type.IsString() && std::string_view(type.GetString()) == "full_attention";
                          });
    if (!all_full) fields.FailUnsupported("layer_types", "every layer must be \"full_attention\"");
  }
  const std::string activation = fields.Text("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish")
    fields.FailUnsupported("hidden_act", "it must be \"silu\"");
  if (fields.Number("partial_rotary_factor").value_or(1.0) != 1.0) {
    fields.FailUnsupported("partial_rotary_factor", "it must be 1");
  }
}

double PositiveNumber(const JsonFields& fields, const char* name) {
  const double value = fields.RequiredNumber(name);
  if (!(value > 0) || value > 1e12) fields.FailField(name, "must be above 0 and at most 1e12");
  return value;
}

RopeConfig ParseRope(const JsonFields& fields) {
  RopeConfig rope;
  std::optional<JsonFields> scaling = fields.Object("rope_scaling");
  const std::optional<JsonFields> parameters = fields.Object("rope_parameters");
  // transformers 5 keeps the theta with the rest; 4 beside it.
  if (parameters && parameters->Has("rope_theta")) {
    rope.theta = PositiveNumber(*parameters, "rope_theta");
  } else if (scaling && scaling->Has("rope_theta")) {
    rope.theta = PositiveNumber(*scaling, "rope_theta");
  } else if (fields.Has("rope_theta")) {
    rope.theta = PositiveNumber(fields, "rope_theta");
  }
  if (!scaling) scaling = parameters;
  if (!scaling) return rope;

  const char* type_field = scaling->Has("rope_type") ? "rope_type" : "type";
  const std::string type = scaling->Text(type_field).value_or("default");
  if (scaling->Has("full_attention") || scaling->Has("sliding_attention")) {
    scaling->FailUnsupported(scaling->Has("full_attention") ? "full_attention" : "sliding_attention",
                             "one rope for all layers is supported");
  }
  if (scaling->Number("partial_rotary_factor").value_or(1.0) != 1.0) {
    scaling->FailUnsupported("partial_rotary_factor", "it must be 1");
  }
  if (type == "default") return rope;
  if (type != "llama3") scaling->FailUnsupported(type_field, "it must be \"default\" or \"llama3\"");
  rope.kind = RopeKind::kLlama3;
  rope.factor = PositiveNumber(*scaling, "factor");
  rope.low_freq_factor = PositiveNumber(*scaling, "low_freq_factor");
  rope.high_freq_factor = PositiveNumber(*scaling, "high_freq_factor");
  if (rope.factor < 1) scaling->FailField("factor", "must be at least 1");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    scaling->FailField("high_freq_factor",
                       fmt::format("must be above low_freq_factor, {}", rope.low_freq_factor));
  }
  rope.original_max_position_embeddings =
      scaling->RequiredInteger("original_max_position_embeddings", 1, kLargestPositions);
  return rope;
}

std::optional<tensor::DType> ParseConfigDType(const JsonFields& fields) {
  const char* name = fields.Has("dtype") ? "dtype" : "torch_dtype";
  const std::optional<std::string> text = fields.Text(name);
  if (!text || *text == "auto") return std::nullopt;
  const std::optional<tensor::DType> dtype = tensor::ParseDType(*text);
  if (!dtype || !tensor::IsFloat(*dtype)) {
    fields.FailUnsupported(name, "it must be bfloat16, float16 or float32");
  }
  return dtype;
}

// -1 is an old spelling of "none".
std::optional<int64_t> TokenId(const JsonFields& fields, const char* name) {
  const std::optional<int64_t> id = fields.Integer(name);
  return id && *id >= 0 ? id : std::nullopt;
}

void ParseSizes(const JsonFields& fields, ModelConfig* config) {
  config->hidden_size = fields.RequiredInteger("hidden_size", 1, kLargestWidth);
  config->intermediate_size = fields.RequiredInteger("intermediate_size", 1, kLargestWidth);
  config->num_hidden_layers = fields.RequiredInteger("num_hidden_layers", 1, kLargestLayers);
  config->num_attention_heads = fields.RequiredInteger("num_attention_heads", 1, kLargestHeads);
  config->num_key_value_heads =
      fields.IntegerOr("num_key_value_heads", config->num_attention_heads, 1, kLargestHeads);
  config->vocab_size = fields.RequiredInteger("vocab_size", 1, kLargestVocab);
  config->max_position_embeddings =
      fields.IntegerOr("max_position_embeddings", config->max_position_embeddings, 1, kLargestPositions);
  if (config->num_attention_heads % config->num_key_value_heads != 0) {
    fields.FailField(fields.Has("num_key_value_heads") ? "num_key_value_heads" : "num_attention_heads",
                     fmt::format("it must divide num_attention_heads, {}", config->num_attention_heads));
  }
  if (fields.Has("head_dim")) {
    config->head_dim = fields.RequiredInteger("head_dim", 1, kLargestHeadDim);
  } else {
    if (config->hidden_size % config->num_attention_heads != 0) {
      fields.FailField("hidden_size",
                       fmt::format("without head_dim it must be a multiple of num_attention_heads, {}",
                                   config->num_attention_heads));
    }
    config->head_dim = config->hidden_size / config->num_attention_heads;
  }
  if (config->head_dim % 2 != 0 || config->q_size() > kLargestWidth) {
    fields.FailField(fields.Has("head_dim") ? "head_dim" : "num_attention_heads",
                     fmt::format("the size of a head, {}, must be even, and all heads together at most {}",
                                 config->head_dim, kLargestWidth));
  }
}

}  // namespace

int64_t ModelConfig::ParameterCount() const {
  const int64_t attention = 2 * hidden_size * q_size() + 2 * hidden_size * kv_size() +
                            (attention_bias ? q_size() + 2 * kv_size() + hidden_size : 0);
  const int64_t mlp =
      3 * hidden_size * intermediate_size + (mlp_bias ? 2 * intermediate_size + hidden_size : 0);
  const int64_t layer = attention + mlp + 2 * hidden_size;
  return num_hidden_layers * layer + hidden_size + (tie_word_embeddings ? 1 : 2) * vocab_size * hidden_size;
}

ModelConfig ParseModelConfig(std::string_view json, std::string_view file) {
  const rapidjson::Document document = ParseJsonObject(json, file);
  const JsonFields fields(document, std::string(file));
  CheckArchitecture(fields);
  CheckNothingUnsupported(fields);
  ModelConfig config;
  ParseSizes(fields, &config);
  config.rms_norm_eps = fields.Number("rms_norm_eps").value_or(config.rms_norm_eps);
  if (!(config.rms_norm_eps >= 0 && config.rms_norm_eps < 1))
    fields.FailField("rms_norm_eps", "must be from 0 to 1");
  config.rope = ParseRope(fields);
  config.tie_word_embeddings = fields.Boolean("tie_word_embeddings").value_or(false);
  config.attention_bias = fields.Boolean("attention_bias").value_or(false);
  config.mlp_bias = fields.Boolean("mlp_bias").value_or(false);
  config.bos_token_id = TokenId(fields, "bos_token_id");
  config.pad_token_id = TokenId(fields, "pad_token_id");
  for (const int64_t id : fields.Integers("eos_token_id")) {
    if (id >= 0) config.eos_token_ids.push_back(id);
  }
  if (config.bos_token_id && *config.bos_token_id >= config.vocab_size) {
    fields.FailField("bos_token_id", fmt::format("must be below vocab_size, {}", config.vocab_size));
  }
  config.dtype = ParseConfigDType(fields);
  return config;
}

ModelConfig ReadModelConfig(const std::string& path) {
  return ParseModelConfig(sys::ReadFile(path, kLargestConfigBytes), path);
}

std::string ConfigHashText(const ModelConfig& config) {
  std::string text = "model=llama\n";
  const auto add = [&text](std::string_view label, const auto& value) {
    text += fmt::format("{}={}\n", label, value);
  };
  add("hidden_size", config.hidden_size);
  add("intermediate_size", config.intermediate_size);
  add("num_hidden_layers", config.num_hidden_layers);
  add("num_attention_heads", config.num_attention_heads);
  add("num_key_value_heads", config.num_key_value_heads);
  add("head_dim", config.head_dim);
  add("vocab_size", config.vocab_size);
  add("rms_norm_eps", config.rms_norm_eps);
  add("tie_word_embeddings", config.tie_word_embeddings);
  add("attention_bias", config.attention_bias);
  add("mlp_bias", config.mlp_bias);
  add("rope_theta", config.rope.theta);
  switch (config.rope.kind) {
    case RopeKind::kDefault:
      add("rope_type", "default");
      break;
    case RopeKind::kLlama3:
      add("rope_type", "llama3");
      add("rope_factor", config.rope.factor);
      add("rope_low_freq_factor", config.rope.low_freq_factor);
      add("rope_high_freq_factor", config.rope.high_freq_factor);
      add("rope_original_max_position_embeddings", config.rope.original_max_position_embeddings);
      break;
  }
  return text;
}

std::string ConfigHash(const ModelConfig& config) {
  return base::Sha256Hex(ConfigHashText(config));
}

}  // namespace preheat::checkpoint
