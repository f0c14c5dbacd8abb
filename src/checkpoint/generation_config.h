// generation_config.json: how a model wants to be sampled. The file is optional; so is each field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::checkpoint {

struct GenerationConfig {
  std::vector<int64_t> eos_token_ids;  // empty: config.json's count
  std::optional<int64_t> bos_token_id;
  std::optional<int64_t> pad_token_id;
  bool do_sample = false;
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
};

// kCorrupt for malformed JSON, wrong types and values that mean nothing (top_p outside 0..1, negative
// temperature).
GenerationConfig ParseGenerationConfig(std::string_view json, std::string_view file);
// nullopt where there is no such file.
std::optional<GenerationConfig> ReadGenerationConfig(const std::string& path);

}  // namespace preheat::checkpoint
