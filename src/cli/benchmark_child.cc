#include "cli/benchmark_child.h"

#include <cstdio>
#include <utility>

#include "base/error.h"
#include "cli/backends.h"
#include "cli/exit_code.h"
#include "cli/run_request.h"
#include "generate/text_stream.h"
#include "measure/metrics.h"
#include "sys/clock.h"
#include "sys/signals.h"

namespace preheat::cli {
namespace {

double SinceStart() {
  return sys::ProcessStartSeconds();
}

std::string DecodeText(const Engine& engine, const std::vector<int32_t>& ids) {
  if (!engine.tokenizer()) return "";
  generate::TextStream stream(*engine.tokenizer(), nullptr);
  for (int32_t id : ids) stream.Feed(id);
  return stream.Finish();
}

measure::BenchMetrics MakeMetrics(const BenchmarkOptions& options, const Engine& engine) {
  const Engine::Facts& facts = engine.facts();
  measure::BenchMetrics metrics;
  metrics.mode = options.single_mode;
  metrics.mode_notes = engine.notes();
  metrics.artifact_bytes = facts.artifact_bytes;
  metrics.artifact_load_seconds = facts.artifact_load_seconds;
  metrics.tokenizer_load_seconds = facts.tokenizer_load_seconds;
  metrics.model_load_seconds = facts.model_load_seconds;
  metrics.prompt_tokens_original = static_cast<int64_t>(engine.prompt().size());
  metrics.prompt_tokens_effective = engine.bucket() > 0 ? engine.bucket() : metrics.prompt_tokens_original;
  metrics.fixed_new_tokens = options.fixed_new_tokens;
  metrics.build_decode_length = facts.build_decode_length;
  metrics.dtype = facts.dtype;
  metrics.compile_mode = options.shared.compile_mode;
  metrics.cache_implementation = options.shared.cache_implementation;
  metrics.fullgraph = options.shared.fullgraph;
  metrics.bucket_pad = options.generation.bucket_pad;
  return metrics;
}

// More than a minute ahead: says so once, after the first request has shown the pace.
void AnnounceLength(const BenchmarkOptions& options, double request_seconds) {
  const double left = request_seconds * static_cast<double>(options.num_requests - 1);
  if (left > 60 && !options.shared.device.quiet) {
    fmt::print(stderr, "[bench] mode={}: about {:.0f} s to go in this process\n", options.single_mode, left);
  }
}

}  // namespace

int RunBenchmarkMode(const BenchmarkOptions& options) {
  const sys::InterruptFlag interrupt;
  GenerationOptions generation = options.generation;
  generation.execution = options.single_mode == "eager" ? "eager" : "compiled";
  const EngineRequest request = {.shared = options.shared,
                                 .generation = generation,
                                 .load_artifacts = options.single_mode == "compile_preload"};
  const Backends backends = FullBackends();
  Engine engine(request, backends);
  measure::BenchMetrics metrics = MakeMetrics(options, engine);
  generate::GenerateOptions generate_options =
      engine.MakeGenerateOptions(generation, options.fixed_new_tokens);
  generate_options.cancelled = [&] { return interrupt.requested(); };
  for (int64_t i = 0; i < options.num_requests; ++i) {
    const double begin = SinceStart();
    const generate::Generation result =
        generate::Generate(engine.runner(), engine.prompt(), generate_options);
    if (result.stop == generate::StopReason::kCancelled) {
      throw base::MakeError(base::ErrorKind::kInterrupted, "stopped in request {} of {}", i + 1,
                            options.num_requests);
    }
    metrics.request_latencies.push_back(result.seconds);
    metrics.request_new_tokens.push_back(static_cast<int64_t>(result.ids.size()));
    // Everything is compiled before the first request; none of ours compiles later.
    metrics.request_counters.push_back(i == 0 ? engine.counters() : preload::CompileCounters{});
    if (i > 0) continue;
    metrics.first_token_seconds = begin + result.first_token_seconds;
    metrics.first_request_end_seconds = SinceStart();
    metrics.first_completion = DecodeText(engine, result.ids);
    AnnounceLength(options, result.seconds);
  }
  metrics.counters = engine.counters();
  metrics.total_script_seconds = SinceStart();
  if (options.emit_json) {
    fmt::print("{}\n", measure::ToLine(metrics));
  } else {
    fmt::print(
        "[bench] mode={}: ttft_cold={}s, ttft_ready={}s, mean={}s, tokens/s_all={:.2f}, "
        "tail_tokens/s={:.2f}\n",
        metrics.mode, Seconds(metrics.first_request_end_seconds), Seconds(metrics.request_latencies.front()),
        Seconds(metrics.TotalGeneration() / static_cast<double>(options.num_requests)),
        metrics.TokensPerSecondAll(), metrics.TailTokensPerSecond());
  }
  return kExitDone;
}

}  // namespace preheat::cli
