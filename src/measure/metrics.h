// What one process measured of itself: the lines METRICS_JSON: (run) and BENCH_JSON: (a benchmark's child).
//
// Keys are those of docs/from-torch.md. Times are seconds from this process's exec unless said; a "first
// request" is a whole request. The parent of a comparison or a benchmark reads the lines back with Parse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "preload/counters.h"

namespace preheat::measure {

using preload::CompileCounters;

struct RunMetrics {
  bool load_artifacts = false;
  int64_t artifact_bytes = 0;
  double artifact_load_seconds = 0;
  double model_load_seconds = 0;
  double setup_seconds = 0;  // from exec until the request begins
  double generation_seconds = 0;
  double first_token_seconds = 0;  // from exec
  double total_script_seconds = 0;
  int64_t prompt_tokens_original = 0;
  int64_t prompt_tokens_effective = 0;  // with padding
  int64_t new_tokens = 0;
  CompileCounters counters;
  std::string model_id;
  std::string dtype;
  std::string compile_mode;
  std::string cache_implementation;
  std::string compile_dynamic;
  bool fullgraph = true;
  bool bucket_pad = false;
  std::vector<int64_t> prefill_buckets;
  double page_cache_resident = 0;  // 0 to 1, of the weights, before they were touched
  std::string device;
  std::string target;
  std::string execution;
  std::string completion;
};

struct BenchMetrics {
  std::string mode;  // eager, compile_preload, compile_no_preload
  std::vector<std::string> mode_notes;
  int64_t artifact_bytes = 0;
  double artifact_load_seconds = 0;
  double tokenizer_load_seconds = 0;
  double model_load_seconds = 0;
  double first_token_seconds = 0;
  double first_request_end_seconds = 0;  // from exec: ttft_cold_start_seconds
  std::vector<double> request_latencies;
  std::vector<int64_t> request_new_tokens;
  std::vector<CompileCounters> request_counters;
  double total_script_seconds = 0;
  double subprocess_wall_seconds = 0;  // added by the parent
  int64_t prompt_tokens_original = 0;
  int64_t prompt_tokens_effective = 0;
  bool fixed_new_tokens = true;
  int64_t build_decode_length = 0;
  CompileCounters counters;
  std::string dtype;
  std::string compile_mode;
  std::string cache_implementation;
  bool fullgraph = true;
  bool bucket_pad = true;
  std::string first_completion;

  double TailMean() const;  // seconds, requests 2..N; the only request's where there is one
  double TotalGeneration() const;
  int64_t TotalNewTokens() const;
  double TokensPerSecondAll() const;
  double TailTokensPerSecond() const;
  double EndToEndTokensPerSecond() const;
};

inline constexpr std::string_view kRunMetricsPrefix = "METRICS_JSON:";
inline constexpr std::string_view kBenchMetricsPrefix = "BENCH_JSON:";

// One line without its end, prefix included.
std::string ToLine(const RunMetrics& metrics);
std::string ToLine(const BenchMetrics& metrics);

// The last line of `output` with the prefix, read back; nullopt where there is none or it is malformed.
std::optional<RunMetrics> ParseRunMetrics(std::string_view output);
std::optional<BenchMetrics> ParseBenchMetrics(std::string_view output);

}  // namespace preheat::measure
