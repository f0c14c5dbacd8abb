// compare and benchmark: their lines, their children, what they leave behind; and Ctrl-C.
#include <atomic>
#include <chrono>
#include <regex>
#include <thread>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kTime[] = R"((0\.0\d{3}|\d+\.\d\d)s)";  // four decimals below 0.1 s, else two
constexpr char kRate[] = R"(\d+\.\d\d)";

class Trials : public EndToEnd {
 protected:
  // TMPDIR as a user may have it: with a blank, and not there yet.
  std::string TempFolder() const { return File("to be made/tmp"); }
  Environment WithTempFolder() const { return {{"TMPDIR", TempFolder()}}; }
  void ExpectTempFolderEmpty() const {
    EXPECT_TRUE(sys::IsFolder(TempFolder()));
    EXPECT_TRUE(sys::ListDir(TempFolder()).empty());
  }
  // `pattern` with T for a time and R for a rate matches one whole line.
  static void ExpectLine(const std::string& text, std::string pattern) {
    pattern = std::regex_replace(pattern, std::regex("<T>"), kTime);
    pattern = std::regex_replace(pattern, std::regex("<R>"), kRate);
    EXPECT_TRUE(std::regex_search(text, std::regex("(^|\n)" + pattern + "\n"))) << pattern << "\nin:\n"
                                                                                << text;
  }
};

TEST_F(Trials, ComparePrintsTrialsAndSummary) {
  const auto result = Preheat(
      OnTiny("compare", {"--prompt", kSum, "--max-new-tokens", "8", "--show-completions"}), WithTempFolder());
  ExpectDone(result);
  for (const char* side : {"load", "skip"}) {
    const std::string name = side;
    ExpectLine(
        result.out,
        "mode=" + name + " trial=1: generation=<T>, script_total=<T>, wall=<T>, new_tokens=8, gen_tps=<R>");
    ExpectLine(result.out, name + ": setup=<T>");
    ExpectLine(result.out, name + ": generation=<T>");
    ExpectLine(result.out, name + ": new_tokens=8.0");
    ExpectLine(result.out, name + ": generation token/s=<R>");
    ExpectLine(result.out, name + ": total script=<T>");
    EXPECT_THAT(result.out, HasSubstr(name + " completion: 12 + 7 = 19"));
  }
  ExpectLine(result.out, "=== Comparison Summary ===");
  ExpectLine(result.out, "load: avg unique_graphs=0.00");
  ExpectLine(result.out, "load: avg async_compile_miss=0.00");
  ExpectLine(result.out, "skip: avg unique_graphs=2.00");
  EXPECT_THAT(result.out, Not(HasSubstr("skip: avg async_compile_miss=0.00")));
  for (const char* what : {"setup", "generation", "total script"}) {
    ExpectLine(result.out, std::string(what) + " speedup from load artifacts: <R>x");
  }
  ExpectTempFolderEmpty();
}

TEST_F(Trials, AFailedTrialIsShownWholeAndLeavesNothing) {
  Words words = OnTiny("run", {"--compare-load-vs-skip", "--compare-runs", "2", "--prompt", kSum});
  words.insert(words.end(), {"--cache-path", File("none.bin")});
  const auto result = Preheat(words, WithTempFolder());
  ExpectError(result, 1, {"a trial's process ended with exit code 66", "none.bin: no such artifact"});
  ExpectTempFolderEmpty();
}

TEST_F(Trials, BenchmarkPrintsItsLinesAndSummary) {
#ifndef PREHEAT_HAS_EAGER
  GTEST_SKIP() << "[SKIP] built without oneDNN";
#endif
  const auto result = Preheat(OnTiny("benchmark", {"--prompt", kSum, "--num-requests", "2", "--repeats", "1",
                                                   "--max-new-tokens", "8"}),
                              WithTempFolder());
  ExpectDone(result);
  for (const char* mode : {"eager", "compile_preload", "compile_no_preload"}) {
    const std::string name = mode;
    ExpectLine(result.out,
               "mode=" + name +
                   " repeat=1: ttft_cold=<T>, ttft_ready=<T>, mean=<T>, tokens/s_all=<R>, tail_tokens/s=<R>");
    ExpectLine(result.out, name +
                               ": ttft_cold=<T>, ttft_ready=<T>, tail_mean=<T>, mean=<T>, tokens/s_all=<R>, "
                               "tail_tokens/s=<R>, end_to_end_tokens/s=<R>, total_script=<T>");
  }
  ExpectLine(result.out, "=== Benchmark Summary ===");
  EXPECT_THAT(result.out, HasSubstr("note: --max-new-tokens 8 is not the build's decode length 128"));
  ExpectLine(result.out, "compile_preload cold-start speedup vs compile_no_preload: <R>x");
  ExpectLine(result.out, "compile_preload cold-start speedup vs eager: <R>x");
  ExpectTempFolderEmpty();
}

TEST_F(Trials, BenchmarksChildPrintsEveryKeyOfTheContract) {
  const auto result =
      Preheat(OnTiny("benchmark", {"--prompt", kSum, "--num-requests", "2", "--max-new-tokens", "12",
                                   "--single-mode", "compile_preload", "--emit-json", "--forbid-compile"}));
  ExpectDone(result);
  const auto bench = MetricsOf(result, "BENCH_JSON:");
  ExpectKeys(bench, {"mode",
                     "num_requests",
                     "mode_notes",
                     "artifact_bytes",
                     "artifact_build_seconds",
                     "artifact_load_seconds",
                     "tokenizer_load_seconds",
                     "model_load_seconds",
                     "request_latencies",
                     "request_new_tokens",
                     "first_request_seconds",
                     "ttft_after_ready_seconds",
                     "tail_mean_seconds",
                     "mean_request_seconds",
                     "median_request_seconds",
                     "p90_request_seconds",
                     "total_generation_seconds",
                     "total_script_seconds",
                     "tokens_per_second",
                     "tokens_per_second_all",
                     "tail_tokens_per_second",
                     "steady_state_tokens_per_second",
                     "end_to_end_tokens_per_second",
                     "ttft_cold_start_seconds",
                     "cold_start_first_request_seconds",
                     "prompt_tokens_original",
                     "prompt_tokens_effective",
                     "total_new_tokens",
                     "fixed_new_tokens",
                     "build_decode_length",
                     "compile_activity_detected",
                     "dtype",
                     "compile_mode",
                     "fullgraph",
                     "cache_implementation",
                     "bucket_pad",
                     "request_compile_stats",
                     "first_completion",
                     "subprocess_wall_seconds",
                     "first_token_seconds"});
  EXPECT_FALSE(bench["compile_activity_detected"].GetBool());
  EXPECT_EQ(bench["prompt_tokens_effective"].GetInt64(), 32);  // benchmark pads
  EXPECT_EQ(bench["total_new_tokens"].GetInt64(), 24);         // fixed: the end token after ten is not chosen
  ASSERT_EQ(bench["request_compile_stats"].Size(), 2u);
  ExpectKeys(bench["request_compile_stats"][0],
             {"unique_graphs", "calls_captured", "async_compile_miss", "async_compile_hit"});
}

TEST_F(Trials, WithoutFixedNewTokensARequestEndsAtItsEndToken) {
  const auto result = Preheat(
      OnTiny("benchmark", {"--prompt", kSum, "--num-requests", "1", "--max-new-tokens", "12", "--single-mode",
                           "compile_preload", "--emit-json", "--no-fixed-new-tokens", "--no-bucket-pad"}));
  ExpectDone(result);
  const auto bench = MetricsOf(result, "BENCH_JSON:");
  EXPECT_EQ(bench["total_new_tokens"].GetInt64(), 10);
  EXPECT_EQ(bench["first_completion"].GetString(), std::string(kSumAnswer));
}

TEST_F(Trials, CtrlCEndsARunWithWhatWasGeneratedSoFar) {
  // The reference interpreter needs tens of seconds for this many.
  std::atomic<bool> cancel = false;
  sys::SpawnOptions options;
  options.cancel = &cancel;
  options.on_stdout_line = [&](std::string_view line) {
    if (!line.starts_with("[run] prompt: ")) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    cancel = true;
  };
  const auto result =
      Start(PREHEAT_BINARY,
            OnTiny("run", {"--prompt", "Tell me a long story about Ben the owl and the forest.",
                           "--execution", "interpreter", "--max-new-tokens", "4000", "--ignore-eos",
                           "--print-ids", "--emit-json-metrics"}),
            options);
  EXPECT_EQ(result.exit_code, 130) << result.Describe() << result.out << result.err;
  const auto metrics = MetricsOf(result);
  ASSERT_TRUE(metrics.HasMember("new_tokens"));
  const int64_t tokens = metrics["new_tokens"].GetInt64();
  EXPECT_GT(tokens, 0);
  EXPECT_LT(tokens, 4000);
  const std::string ids = LineAfter(result.out, "ids: ");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), ',') + 1, tokens);
  const std::string story = "Ben the owl lived in the forest with a good friend named Kira.";
  const std::string completion = LineAfter(result.out, "[run] completion: ");
  EXPECT_EQ(completion.substr(0, story.size()), story.substr(0, completion.size()));
}

TEST_F(Trials, CtrlCEndsABenchmarkAndItsChildAndLeavesNothing) {
  std::atomic<bool> cancel = false;
  sys::SpawnOptions options;
  options.env = WithTempFolder();
  options.cancel = &cancel;
  // Nothing is printed before the first process has ended: the timer starts with this one.
  std::jthread timer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    cancel = true;
  });
  const auto result =
      Start(PREHEAT_BINARY, OnTiny("benchmark", {"--prompt", kSum, "--num-requests", "100000"}), options);
  EXPECT_EQ(result.exit_code, 130) << result.Describe() << result.out << result.err;
  EXPECT_THAT(result.err, HasSubstr("stopped"));
  ExpectTempFolderEmpty();
}

}  // namespace
}  // namespace preheat::testing
