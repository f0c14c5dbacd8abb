#include "checkpoint/generation_config.h"

#include "checkpoint/json_fields.h"
#include "sys/files.h"

namespace preheat::checkpoint {

GenerationConfig ParseGenerationConfig(std::string_view json, std::string_view file) {
  const rapidjson::Document document = ParseJsonObject(json, file);
  const JsonFields fields(document, std::string(file));
  GenerationConfig config;
  for (const int64_t id : fields.Integers("eos_token_id")) {
    if (id >= 0) config.eos_token_ids.push_back(id);
  }
  config.bos_token_id = fields.Integer("bos_token_id");
  config.pad_token_id = fields.Integer("pad_token_id");
  config.do_sample = fields.Boolean("do_sample").value_or(false);
  config.temperature = fields.Number("temperature");
  if (config.temperature && *config.temperature < 0) fields.FailField("temperature", "must not be negative");
  config.top_k = fields.Integer("top_k");
  if (config.top_k && *config.top_k < 0) fields.FailField("top_k", "must not be negative");
  config.top_p = fields.Number("top_p");
  if (config.top_p && !(*config.top_p >= 0 && *config.top_p <= 1))
    fields.FailField("top_p", "must be from 0 to 1");
  return config;
}

std::optional<GenerationConfig> ReadGenerationConfig(const std::string& path) {
  constexpr uint64_t kLargestBytes = uint64_t{16} << 20;
  if (!sys::Exists(path)) return std::nullopt;
  return ParseGenerationConfig(sys::ReadFile(path, kLargestBytes), path);
}

}  // namespace preheat::checkpoint
