#include "cli/compare.h"

#include <cstdio>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/exit_code.h"
#include "cli/run_request.h"
#include "cli/trial.h"
#include "measure/metrics.h"
#include "measure/statistics.h"

namespace preheat::cli {
namespace {

struct Side {
  const char* mode;  // "load", "skip"
  const char* option;
  std::vector<measure::RunMetrics> trials = {};

  // The mean of one number over the trials.
  template <typename Number>
  double Mean(Number number) const {
    std::vector<double> sample;
    for (const measure::RunMetrics& trial : trials) sample.push_back(static_cast<double>(number(trial)));
    return measure::Mean(sample);
  }
  double Setup() const {
    return Mean([](const measure::RunMetrics& m) { return m.setup_seconds; });
  }
  double Generation() const {
    return Mean([](const measure::RunMetrics& m) { return m.generation_seconds; });
  }
  double Total() const {
    return Mean([](const measure::RunMetrics& m) { return m.total_script_seconds; });
  }
  double NewTokens() const {
    return Mean([](const measure::RunMetrics& m) { return m.new_tokens; });
  }
};

double TokensPerSecond(const measure::RunMetrics& m) {
  return measure::Ratio(static_cast<double>(m.new_tokens), m.generation_seconds);
}

void RunTrialOf(Side& side, int64_t trial, const RunOptions& options, const Words& words) {
  Words child = words;
  child.insert(child.end(), {side.option, "--emit-json-metrics"});
  // The child must not compare again: the flag cannot be unset, so it is left out.
  std::erase(child, "--compare-load-vs-skip");
  const Trial result = RunTrial({.command = "run", .words = child});
  const auto metrics = measure::ParseRunMetrics(result.output);
  if (!metrics) {
    throw base::MakeError(base::ErrorKind::kToolFailed, "a trial printed no metrics; all that it said:\n{}",
                          result.output);
  }
  side.trials.push_back(*metrics);
  fmt::print("mode={} trial={}: generation={}s, script_total={}s, wall={}s, new_tokens={}, gen_tps={:.2f}\n",
             side.mode, trial, Seconds(metrics->generation_seconds), Seconds(metrics->total_script_seconds),
             Seconds(result.wall_seconds), metrics->new_tokens, TokensPerSecond(*metrics));
  if (options.show_completions) fmt::print("[compare] {} completion: {}\n", side.mode, metrics->completion);
  std::fflush(stdout);
}

void PrintSide(const Side& side) {
  fmt::print("{}: setup={}s\n", side.mode, Seconds(side.Setup()));
  fmt::print("{}: generation={}s\n", side.mode, Seconds(side.Generation()));
  fmt::print("{}: new_tokens={:.1f}\n", side.mode, side.NewTokens());
  fmt::print("{}: generation token/s={:.2f}\n", side.mode, side.Mean(TokensPerSecond));
  fmt::print("{}: total script={}s\n", side.mode, Seconds(side.Total()));
  fmt::print("{}: avg unique_graphs={:.2f}\n", side.mode,
             side.Mean([](const measure::RunMetrics& m) { return m.counters.unique_graphs; }));
  fmt::print("{}: avg async_compile_miss={:.2f}\n", side.mode,
             side.Mean([](const measure::RunMetrics& m) { return m.counters.async_compile_miss; }));
}

}  // namespace

int CompareLoadAndSkip(const RunOptions& options, const Words& given) {
  const Words words = OnOneDevice(options.shared, given);
  Side load = {.mode = "load", .option = "--load-artifacts"};
  Side skip = {.mode = "skip", .option = "--no-load-artifacts"};
  {
    base::Progress progress("[compare] trials", 2 * options.compare_runs);
    for (int64_t trial = 1; trial <= options.compare_runs; ++trial) {
      for (Side* side : {&load, &skip}) {
        RunTrialOf(*side, trial, options, words);
        progress.Advance();
      }
    }
  }
  fmt::print("=== Comparison Summary ===\n");
  PrintSide(load);
  PrintSide(skip);
  fmt::print("setup speedup from load artifacts: {:.2f}x\n", measure::Ratio(skip.Setup(), load.Setup()));
  fmt::print("generation speedup from load artifacts: {:.2f}x\n",
             measure::Ratio(skip.Generation(), load.Generation()));
  fmt::print("total script speedup from load artifacts: {:.2f}x\n",
             measure::Ratio(skip.Total(), load.Total()));
  return kExitDone;
}

}  // namespace preheat::cli
