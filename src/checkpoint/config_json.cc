// ModelConfigToJson.
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <string>

#include "checkpoint/config.h"

namespace preheat::checkpoint {
namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void WriteRope(const RopeConfig& rope, Writer* writer) {
  writer->Key("rope_scaling");
  switch (rope.kind) {
    case RopeKind::kDefault:
      writer->Null();
      break;
    case RopeKind::kLlama3:
      writer->StartObject();
      writer->Key("factor"), writer->Double(rope.factor);
      writer->Key("high_freq_factor"), writer->Double(rope.high_freq_factor);
      writer->Key("low_freq_factor"), writer->Double(rope.low_freq_factor);
      writer->Key("original_max_position_embeddings"), writer->Int64(rope.original_max_position_embeddings);
      writer->Key("rope_type"), writer->String("llama3");
      writer->EndObject();
      break;
  }
  writer->Key("rope_theta"), writer->Double(rope.theta);
}

void WriteEos(const std::vector<int64_t>& ids, Writer* writer) {
  writer->Key("eos_token_id");
  if (ids.size() == 1) {
    writer->Int64(ids[0]);
    return;
  }
  writer->StartArray();
  for (const int64_t id : ids) writer->Int64(id);
  writer->EndArray();
}

}  // namespace

std::string ModelConfigToJson(const ModelConfig& config) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  writer.Key("architectures"), writer.StartArray(), writer.String("LlamaForCausalLM"), writer.EndArray();
  writer.Key("attention_bias"), writer.Bool(config.attention_bias);
  if (config.bos_token_id) writer.Key("bos_token_id"), writer.Int64(*config.bos_token_id);
  if (!config.eos_token_ids.empty()) WriteEos(config.eos_token_ids, &writer);
  writer.Key("head_dim"), writer.Int64(config.head_dim);
  writer.Key("hidden_act"), writer.String("silu");
  writer.Key("hidden_size"), writer.Int64(config.hidden_size);
  writer.Key("intermediate_size"), writer.Int64(config.intermediate_size);
  writer.Key("max_position_embeddings"), writer.Int64(config.max_position_embeddings);
  writer.Key("mlp_bias"), writer.Bool(config.mlp_bias);
  writer.Key("model_type"), writer.String("llama");
  writer.Key("num_attention_heads"), writer.Int64(config.num_attention_heads);
  writer.Key("num_hidden_layers"), writer.Int64(config.num_hidden_layers);
  writer.Key("num_key_value_heads"), writer.Int64(config.num_key_value_heads);
  if (config.pad_token_id) writer.Key("pad_token_id"), writer.Int64(*config.pad_token_id);
  writer.Key("rms_norm_eps"), writer.Double(config.rms_norm_eps);
  WriteRope(config.rope, &writer);
  writer.Key("tie_word_embeddings"), writer.Bool(config.tie_word_embeddings);
  if (config.dtype) {
    const std::string name(tensor::Name(*config.dtype));
    writer.Key("torch_dtype"), writer.String(name.c_str());
  }
  writer.Key("transformers_version"), writer.String("4.57.5");
  writer.Key("use_cache"), writer.Bool(true);
  writer.Key("vocab_size"), writer.Int64(config.vocab_size);
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

}  // namespace preheat::checkpoint
