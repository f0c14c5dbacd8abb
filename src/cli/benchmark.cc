#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/benchmark_child.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/run_request.h"
#include "cli/trial.h"
#include "measure/metrics.h"
#include "measure/statistics.h"

namespace preheat::cli {
namespace {

using measure::BenchMetrics;

const std::vector<std::string> kModes = {"eager", "compile_preload", "compile_no_preload"};

// The mean of one number over the repeats of a mode.
template <typename Number>
double MeanOf(const std::vector<BenchMetrics>& repeats, Number number) {
  std::vector<double> sample;
  for (const BenchMetrics& repeat : repeats) sample.push_back(number(repeat));
  return measure::Mean(sample);
}

double TimeToFirstRequest(const BenchMetrics& m) {
  return m.first_request_end_seconds;
}
double FirstRequest(const BenchMetrics& m) {
  return m.request_latencies.front();
}
double MeanRequest(const BenchMetrics& m) {
  return measure::Mean(m.request_latencies);
}

BenchMetrics RunRepeat(const BenchmarkOptions& options, const Words& words, const std::string& mode) {
  Words child = words;
  child.insert(child.end(), {"--single-mode", mode, "--emit-json"});
  // Libraries come compiled: eager's own kernels on a card are those of the cache folder, as with any eager
  // run but the first.
  const bool fresh_cache = options.isolate_compiler_caches && mode != "eager";
  const Trial trial = RunTrial({.command = "benchmark", .words = child, .fresh_cache = fresh_cache});
  auto metrics = measure::ParseBenchMetrics(trial.output);
  if (!metrics) {
    throw base::MakeError(base::ErrorKind::kToolFailed,
                          "a benchmark process printed no metrics; all that it said:\n{}", trial.output);
  }
  metrics->subprocess_wall_seconds = trial.wall_seconds;
  return *metrics;
}

void PrintRepeat(const BenchMetrics& m, int64_t repeat) {
  fmt::print(
      "mode={} repeat={}: ttft_cold={}s, ttft_ready={}s, mean={}s, tokens/s_all={:.2f}, "
      "tail_tokens/s={:.2f}\n",
      m.mode, repeat, Seconds(TimeToFirstRequest(m)), Seconds(FirstRequest(m)), Seconds(MeanRequest(m)),
      m.TokensPerSecondAll(), m.TailTokensPerSecond());
  std::fflush(stdout);
}

void PrintNotes(const BenchMetrics& m) {
  for (const std::string& note : m.mode_notes) fmt::print("[bench] note: {}\n", note);
}

void PrintSummary(const std::string& mode, const std::vector<BenchMetrics>& repeats) {
  fmt::print(
      "{}: ttft_cold={}s, ttft_ready={}s, tail_mean={}s, mean={}s, tokens/s_all={:.2f}, "
      "tail_tokens/s={:.2f}, "
      "end_to_end_tokens/s={:.2f}, total_script={}s\n",
      mode, Seconds(MeanOf(repeats, TimeToFirstRequest)), Seconds(MeanOf(repeats, FirstRequest)),
      Seconds(MeanOf(repeats, [](const BenchMetrics& m) { return m.TailMean(); })),
      Seconds(MeanOf(repeats, MeanRequest)),
      MeanOf(repeats, [](const BenchMetrics& m) { return m.TokensPerSecondAll(); }),
      MeanOf(repeats, [](const BenchMetrics& m) { return m.TailTokensPerSecond(); }),
      MeanOf(repeats, [](const BenchMetrics& m) { return m.EndToEndTokensPerSecond(); }),
      Seconds(MeanOf(repeats, [](const BenchMetrics& m) { return m.total_script_seconds; })));
}

// Modes take turns within each repeat, so that a drifting machine is fair to all.
int RunAllModes(const BenchmarkOptions& options, const Words& given) {
  const Words words = OnOneDevice(options.shared, given);
  std::map<std::string, std::vector<BenchMetrics>> results;
  bool announced = false;
  {
    const int64_t processes = static_cast<int64_t>(kModes.size()) * options.repeats;
    base::Progress progress("[bench] processes", processes);
    for (int64_t repeat = 1; repeat <= options.repeats; ++repeat) {
      for (const std::string& mode : kModes) {
        progress.SetNote(mode);
        const BenchMetrics metrics = RunRepeat(options, words, mode);
        PrintRepeat(metrics, repeat);
        if (mode == "eager") PrintNotes(metrics);
        const double left = metrics.subprocess_wall_seconds * static_cast<double>(processes - 1);
        if (!announced && left > 60 && !options.shared.device.quiet) {
          fmt::print(stderr, "[bench] the first of {} processes took {:.0f} s: about {:.0f} s to go\n",
                     processes, metrics.subprocess_wall_seconds, left);
        }
        announced = true;
        results[mode].push_back(metrics);
        progress.Advance();
      }
    }
  }
  const BenchMetrics& preload = results["compile_preload"].front();
  if (preload.build_decode_length > 0 && preload.build_decode_length != options.generation.max_new_tokens) {
    fmt::print(
        "[bench] note: --max-new-tokens {} is not the build's decode length {}; nothing is compiled for it\n",
        options.generation.max_new_tokens, preload.build_decode_length);
  }
  fmt::print("=== Benchmark Summary ===\n");
  for (const std::string& mode : kModes) PrintSummary(mode, results[mode]);
  const double preload_seconds = MeanOf(results["compile_preload"], TimeToFirstRequest);
  for (const char* other : {"compile_no_preload", "eager"}) {
    fmt::print("compile_preload cold-start speedup vs {}: {:.2f}x\n", other,
               measure::Ratio(MeanOf(results[other], TimeToFirstRequest), preload_seconds));
  }
  return kExitDone;
}

}  // namespace

int BenchmarkCommand(const Words& words) {
  const auto options = ParseBenchmark(words);
  if (!options) return kExitDone;
  ApplyDeviceOptions(options->shared.device);
  return options->single_mode.empty() ? RunAllModes(*options, words) : RunBenchmarkMode(*options);
}

}  // namespace preheat::cli
