#include "cli/run_request.h"

#include <fmt/ranges.h>

#include <cstdio>
#include <string>

#include "cli/exit_code.h"
#include "generate/text_stream.h"
#include "measure/metrics.h"
#include "sys/clock.h"
#include "sys/signals.h"

namespace preheat::cli {
namespace {

void Print(const std::string& line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
}

// The completion as it comes; the tokenizer may be missing where the prompt was given as ids.
class Completion {
 public:
  explicit Completion(const Engine& engine) {
    if (engine.tokenizer()) {
      stream_.emplace(*engine.tokenizer(), [](std::string_view piece) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      });
    }
  }
  void Feed(int32_t id) {
    if (stream_) stream_->Feed(id);
  }
  std::string Finish() { return stream_ ? stream_->Finish() : ""; }

 private:
  std::optional<generate::TextStream> stream_;
};

void PrintCounters(const std::string& tag, const preload::CompileCounters& c) {
  Print(fmt::format(
      "{} counters: unique_graphs={} calls_captured={} async_compile_miss={} async_compile_hit={} "
      "fxgraph_cache_miss={} fxgraph_cache_hit={} aot_cache_miss={} aot_cache_hit={}{}",
      tag, c.unique_graphs, c.calls_captured, c.async_compile_miss, c.async_compile_hit, c.fxgraph_cache_miss,
      c.fxgraph_cache_hit, c.aot_cache_miss, c.aot_cache_hit,
      c.driver_compile == 0 ? "" : fmt::format(" driver_compile={}", c.driver_compile)));
}

measure::RunMetrics MakeMetrics(const RunOptions& options, const Engine& engine) {
  const Engine::Facts& facts = engine.facts();
  measure::RunMetrics metrics;
  metrics.load_artifacts = options.load_artifacts && options.generation.execution == "compiled";
  metrics.artifact_bytes = facts.artifact_bytes;
  metrics.artifact_load_seconds = facts.artifact_load_seconds;
  metrics.model_load_seconds = facts.model_load_seconds;
  metrics.prompt_tokens_original = static_cast<int64_t>(engine.prompt().size());
  metrics.prompt_tokens_effective = engine.bucket() > 0 ? engine.bucket() : metrics.prompt_tokens_original;
  metrics.counters = engine.counters();
  metrics.model_id = options.shared.model_id;
  metrics.dtype = facts.dtype;
  metrics.compile_mode = options.shared.compile_mode;
  metrics.cache_implementation = options.shared.cache_implementation;
  metrics.compile_dynamic = options.shared.compile_dynamic;
  metrics.fullgraph = options.shared.fullgraph;
  metrics.bucket_pad = options.generation.bucket_pad;
  metrics.prefill_buckets = facts.buckets;
  metrics.page_cache_resident = facts.page_cache_resident;
  metrics.device = facts.device;
  metrics.target = facts.target;
  metrics.execution = options.generation.execution;
  return metrics;
}

}  // namespace

std::string Seconds(double seconds) {
  return seconds < 0.1 ? fmt::format("{:.4f}", seconds) : fmt::format("{:.2f}", seconds);
}

int RunRequest(const RunOptions& options, const Backends& backends) {
  const std::string tag = options.generation.execution == "eager" ? "[eager]" : "[run]";
  const bool quiet = options.shared.device.quiet;
  const sys::InterruptFlag interrupt;
  Engine engine({.shared = options.shared,
                 .generation = options.generation,
                 .load_artifacts = options.load_artifacts,
                 .want_residency = options.emit_json_metrics},
                backends);
  measure::RunMetrics metrics = MakeMetrics(options, engine);
  if (!quiet) {
    for (const std::string& note : engine.notes()) Print(fmt::format("{} {}", tag, note));
    if (!options.generation.prompt_ids) Print(fmt::format("{} prompt: {}", tag, options.generation.prompt));
    std::fputs((tag + " completion: ").c_str(), stdout);
    std::fflush(stdout);
  }

  Completion completion(engine);
  generate::GenerateOptions generate_options =
      engine.MakeGenerateOptions(options.generation, /*fixed_new_tokens=*/false);
  generate_options.on_token = [&](int32_t id) { completion.Feed(id); };
  generate_options.cancelled = [&] { return interrupt.requested(); };
  metrics.setup_seconds = sys::ProcessStartSeconds();
  const generate::Generation generation =
      generate::Generate(engine.runner(), engine.prompt(), generate_options);
  metrics.completion = completion.Finish();
  std::fputc('\n', stdout);

  metrics.generation_seconds = generation.seconds;
  metrics.first_token_seconds = metrics.setup_seconds + generation.first_token_seconds;
  metrics.new_tokens = static_cast<int64_t>(generation.ids.size());
  metrics.total_script_seconds = sys::ProcessStartSeconds();
  if (options.generation.print_ids) Print(fmt::format("ids: {}", fmt::join(generation.ids, ",")));
  if (!quiet) {
    Print(fmt::format("{} prompt_tokens={} (effective {}), new_tokens={}", tag,
                      metrics.prompt_tokens_original, metrics.prompt_tokens_effective, metrics.new_tokens));
    Print(
        fmt::format("{} artifact_load={}s model_load={}s setup={}s generation={}s first_token={}s total={}s "
                    "({:.2f} token/s)",
                    tag, Seconds(metrics.artifact_load_seconds), Seconds(metrics.model_load_seconds),
                    Seconds(metrics.setup_seconds), Seconds(metrics.generation_seconds),
                    Seconds(metrics.first_token_seconds), Seconds(metrics.total_script_seconds),
                    static_cast<double>(metrics.new_tokens) / metrics.generation_seconds));
    PrintCounters(tag, metrics.counters);
  }
  if (options.emit_json_metrics) Print(measure::ToLine(metrics));
  return generation.stop == generate::StopReason::kCancelled ? kExitInterrupted : kExitDone;
}

}  // namespace preheat::cli
