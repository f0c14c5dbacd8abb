#include "measure/metrics.h"

#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <numeric>
#include <span>
#include <type_traits>

#include "base/json.h"
#include "measure/statistics.h"

namespace preheat::measure {
namespace {

using JsonWriter = rapidjson::Writer<rapidjson::StringBuffer>;

void WriteValue(JsonWriter& writer, bool value) {
  writer.Bool(value);
}
void WriteValue(JsonWriter& writer, int64_t value) {
  writer.Int64(value);
}
void WriteValue(JsonWriter& writer, double value) {
  writer.Double(value);
}
void WriteValue(JsonWriter& writer, const std::string& value) {
  writer.String(value);
}
template <typename T>
void WriteValue(JsonWriter& writer, const std::vector<T>& values) {
  writer.StartArray();
  for (const T& value : values) WriteValue(writer, value);
  writer.EndArray();
}

// Both directions of a record come from one list of its fields: Visit(metrics, visitor) calls
// visitor(key, member) for each stored field, and visitor.Derived(key, value) for what follows from them.
struct WriteVisitor {
  JsonWriter& writer;
  template <typename T>
  void operator()(const char* key, const T& member) {
    writer.Key(key);
    WriteValue(writer, member);
  }
  template <typename T>
  void Derived(const char* key, const T& value) {
    (*this)(key, value);
  }
};

struct ReadVisitor {
  const rapidjson::Value& object;
  bool good = true;

  const rapidjson::Value* Find(const char* key) {
    const auto member = object.FindMember(key);
    if (member == object.MemberEnd()) good = false;
    return member == object.MemberEnd() ? nullptr : &member->value;
  }
  bool Read(const rapidjson::Value& json, bool& out) { return json.IsBool() && (out = json.GetBool(), true); }
  bool Read(const rapidjson::Value& json, int64_t& out) {
    return json.IsInt64() && (out = json.GetInt64(), true);
  }
  bool Read(const rapidjson::Value& json, double& out) {
    return json.IsNumber() && (out = json.GetDouble(), true);
  }
  bool Read(const rapidjson::Value& json, std::string& out) {
    return json.IsString() && (out.assign(json.GetString(), json.GetStringLength()), true);
  }
  template <typename T>
  bool Read(const rapidjson::Value& json, std::vector<T>& out) {
    if (!json.IsArray()) return false;
    out.clear();
    for (const auto& item : json.GetArray()) {
      T value{};
      if (!Read(item, value)) return false;
      out.push_back(value);
    }
    return true;
  }
  template <typename T>
  void operator()(const char* key, T& member) {
    const rapidjson::Value* json = Find(key);
    if (json != nullptr && !Read(*json, member)) good = false;
  }
  template <typename T>
  void Derived(const char*, const T&) {}
};

template <typename Counters, typename Visitor>
void VisitCounters(Counters& counters, Visitor& visit) {
  visit("unique_graphs", counters.unique_graphs);
  visit("calls_captured", counters.calls_captured);
  visit("async_compile_miss", counters.async_compile_miss);
  visit("async_compile_hit", counters.async_compile_hit);
  visit("fxgraph_cache_miss", counters.fxgraph_cache_miss);
  visit("fxgraph_cache_hit", counters.fxgraph_cache_hit);
  visit("aot_cache_miss", counters.aot_cache_miss);
  visit("aot_cache_hit", counters.aot_cache_hit);
  visit("driver_compile", counters.driver_compile);
}

template <typename Metrics, typename Visitor>
void VisitRun(Metrics& m, Visitor& visit) {
  visit("load_artifacts", m.load_artifacts);
  visit("artifact_bytes", m.artifact_bytes);
  visit("artifact_load_seconds", m.artifact_load_seconds);
  visit("model_load_seconds", m.model_load_seconds);
  visit("setup_seconds", m.setup_seconds);
  visit("generation_seconds", m.generation_seconds);
  visit("first_token_seconds", m.first_token_seconds);
  visit("total_script_seconds", m.total_script_seconds);
  visit.Derived("prompt_tokens", m.prompt_tokens_effective);
  visit("prompt_tokens_original", m.prompt_tokens_original);
  visit("prompt_tokens_effective", m.prompt_tokens_effective);
  visit("new_tokens", m.new_tokens);
  VisitCounters(m.counters, visit);
  visit("cache_implementation", m.cache_implementation);
  visit("compile_dynamic", m.compile_dynamic);
  visit("bucket_pad", m.bucket_pad);
  visit("prefill_buckets", m.prefill_buckets);
  visit("compile_mode", m.compile_mode);
  visit("fullgraph", m.fullgraph);
  visit("dtype", m.dtype);
  visit("model_id", m.model_id);
  visit("page_cache_resident", m.page_cache_resident);
  visit("device", m.device);
  visit("target", m.target);
  visit("execution", m.execution);
  visit("completion", m.completion);
}

template <typename Metrics, typename Visitor>
void VisitBench(Metrics& m, Visitor& visit) {
  visit("mode", m.mode);
  visit("mode_notes", m.mode_notes);
  visit("artifact_bytes", m.artifact_bytes);
  visit.Derived("artifact_build_seconds", 0.0);
  visit("artifact_load_seconds", m.artifact_load_seconds);
  visit("tokenizer_load_seconds", m.tokenizer_load_seconds);
  visit("model_load_seconds", m.model_load_seconds);
  visit("request_latencies", m.request_latencies);
  visit("request_new_tokens", m.request_new_tokens);
  const double first = m.request_latencies.empty() ? 0 : m.request_latencies.front();
  visit.Derived("num_requests", static_cast<int64_t>(m.request_latencies.size()));
  visit.Derived("first_request_seconds", first);
  visit.Derived("ttft_after_ready_seconds", first);
  visit.Derived("tail_mean_seconds", m.TailMean());
  visit.Derived("mean_request_seconds", Mean(m.request_latencies));
  visit.Derived("median_request_seconds", Median(m.request_latencies));
  visit.Derived("p90_request_seconds", Quantile(m.request_latencies, 0.9));
  visit.Derived("total_generation_seconds", m.TotalGeneration());
  visit("total_script_seconds", m.total_script_seconds);
  visit.Derived("tokens_per_second", m.TokensPerSecondAll());
  visit.Derived("tokens_per_second_all", m.TokensPerSecondAll());
  visit.Derived("tail_tokens_per_second", m.TailTokensPerSecond());
  visit.Derived("steady_state_tokens_per_second", m.TailTokensPerSecond());
  visit.Derived("end_to_end_tokens_per_second", m.EndToEndTokensPerSecond());
  visit("ttft_cold_start_seconds", m.first_request_end_seconds);
  visit.Derived("cold_start_first_request_seconds", m.first_request_end_seconds);
  visit("first_token_seconds", m.first_token_seconds);
  visit("prompt_tokens_original", m.prompt_tokens_original);
  visit("prompt_tokens_effective", m.prompt_tokens_effective);
  visit.Derived("total_new_tokens", m.TotalNewTokens());
  visit("fixed_new_tokens", m.fixed_new_tokens);
  visit("build_decode_length", m.build_decode_length);
  visit.Derived("compile_activity_detected", m.counters.Compiled());
  visit("dtype", m.dtype);
  visit("compile_mode", m.compile_mode);
  visit("fullgraph", m.fullgraph);
  visit("cache_implementation", m.cache_implementation);
  visit("bucket_pad", m.bucket_pad);
  visit("subprocess_wall_seconds", m.subprocess_wall_seconds);
  visit("first_completion", m.first_completion);
  VisitCounters(m.counters, visit);
}

void WriteRequestCounters(JsonWriter& writer, const std::vector<CompileCounters>& requests) {
  writer.Key("request_compile_stats");
  writer.StartArray();
  for (const CompileCounters& counters : requests) {
    writer.StartObject();
    WriteVisitor visit{writer};
    visit("unique_graphs", counters.unique_graphs);
    visit("calls_captured", counters.calls_captured);
    visit("async_compile_miss", counters.async_compile_miss);
    visit("async_compile_hit", counters.async_compile_hit);
    writer.EndObject();
  }
  writer.EndArray();
}

bool ReadRequestCounters(ReadVisitor& reader, std::vector<CompileCounters>& requests) {
  const rapidjson::Value* json = reader.Find("request_compile_stats");
  if (json == nullptr || !json->IsArray()) return false;
  for (const auto& item : json->GetArray()) {
    if (!item.IsObject()) return false;
    ReadVisitor visit{item};
    CompileCounters counters;
    visit("unique_graphs", counters.unique_graphs);
    visit("calls_captured", counters.calls_captured);
    visit("async_compile_miss", counters.async_compile_miss);
    visit("async_compile_hit", counters.async_compile_hit);
    if (!visit.good) return false;
    requests.push_back(counters);
  }
  return true;
}

// The text behind the last line that begins with `prefix`.
std::optional<std::string_view> LastLineWith(std::string_view output, std::string_view prefix) {
  std::optional<std::string_view> found;
  while (!output.empty()) {
    const size_t end = output.find('\n');
    const std::string_view line = output.substr(0, end);
    if (line.substr(0, prefix.size()) == prefix) found = line.substr(prefix.size());
    if (end == std::string_view::npos) break;
    output.remove_prefix(end + 1);
  }
  return found;
}

bool ParseObject(std::string_view output, std::string_view prefix, rapidjson::Document& document) {
  const auto text = LastLineWith(output, prefix);
  if (!text) return false;
  return !base::ParseJson(*text, document, {.check_utf8 = false}) && document.IsObject();
}

}  // namespace

double BenchMetrics::TailMean() const {
  const std::span<const double> all(request_latencies);
  return Mean(all.size() > 1 ? all.subspan(1) : all);
}

double BenchMetrics::TotalGeneration() const {
  return std::accumulate(request_latencies.begin(), request_latencies.end(), 0.0);
}

int64_t BenchMetrics::TotalNewTokens() const {
  return std::accumulate(request_new_tokens.begin(), request_new_tokens.end(), int64_t{0});
}

double BenchMetrics::TokensPerSecondAll() const {
  return Ratio(static_cast<double>(TotalNewTokens()), TotalGeneration());
}

double BenchMetrics::TailTokensPerSecond() const {
  if (request_latencies.size() < 2) return TokensPerSecondAll();
  const double tokens = static_cast<double>(TotalNewTokens() - request_new_tokens.front());
  return Ratio(tokens, TotalGeneration() - request_latencies.front());
}

double BenchMetrics::EndToEndTokensPerSecond() const {
  return Ratio(static_cast<double>(TotalNewTokens()), total_script_seconds);
}

std::string ToLine(const RunMetrics& metrics) {
  rapidjson::StringBuffer buffer;
  JsonWriter writer(buffer);
  writer.StartObject();
  WriteVisitor visit{writer};
  VisitRun(metrics, visit);
  writer.EndObject();
  return std::string(kRunMetricsPrefix) + buffer.GetString();
}

std::string ToLine(const BenchMetrics& metrics) {
  rapidjson::StringBuffer buffer;
  JsonWriter writer(buffer);
  writer.StartObject();
  WriteVisitor visit{writer};
  VisitBench(metrics, visit);
  WriteRequestCounters(writer, metrics.request_counters);
  writer.EndObject();
  return std::string(kBenchMetricsPrefix) + buffer.GetString();
}

std::optional<RunMetrics> ParseRunMetrics(std::string_view output) {
  rapidjson::Document document;
  if (!ParseObject(output, kRunMetricsPrefix, document)) return std::nullopt;
  RunMetrics metrics;
  ReadVisitor visit{document};
  VisitRun(metrics, visit);
  return visit.good ? std::optional(metrics) : std::nullopt;
}

std::optional<BenchMetrics> ParseBenchMetrics(std::string_view output) {
  rapidjson::Document document;
  if (!ParseObject(output, kBenchMetricsPrefix, document)) return std::nullopt;
  BenchMetrics metrics;
  ReadVisitor visit{document};
  VisitBench(metrics, visit);
  if (!ReadRequestCounters(visit, metrics.request_counters) || !visit.good) return std::nullopt;
  return metrics;
}

}  // namespace preheat::measure
