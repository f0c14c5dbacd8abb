// The four scripts, as a user calls them: from a folder of their own, with further arguments behind their
// defaults.
#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;

class Scripts : public EndToEnd {
 protected:
  // In an empty folder, so that artifacts/ is made there.
  sys::SpawnResult Script(const std::string& name, const Words& words,
                          std::string binary = PREHEAT_BINARY) const {
    sys::SpawnOptions options;
    options.env = WarmCache();
    options.env.emplace_back("PREHEAT_BIN", std::move(binary));
    options.cwd = File("work");
    sys::MakeDirs(options.cwd);
    return Start(std::string(PREHEAT_SOURCE_DIR) + "/" + name, words, options);
  }
  static Words Tiny32(const Words& more) {
    Words words = {"--model-id", TinyModel(), "--compile-mode", "default"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

TEST_F(Scripts, BuildThenRun) {
  const auto build = Script("build.sh", Tiny32({"--prefill-lengths", "32"}));
  ExpectDone(build);
  EXPECT_THAT(build.out, HasSubstr("artifacts/llama3b_torchcompile_cache.bin"));
  EXPECT_TRUE(sys::Exists(File("work/artifacts/llama3b_torchcompile_cache.bin")));
  EXPECT_TRUE(sys::Exists(File("work/artifacts/llama3b_torchcompile_cache_meta.json")));
  const auto run = Script("run.sh", Tiny32({"--prompt", kSum, "--forbid-compile"}));
  ExpectDone(run);
  EXPECT_EQ(LineAfter(run.out, "[run] completion: "), kSumAnswer);
  EXPECT_THAT(run.out, HasSubstr("(effective 32)"));  // the script pads
}

TEST_F(Scripts, CompareAndBenchmark) {
#ifndef PREHEAT_HAS_EAGER
  GTEST_SKIP() << "[SKIP] built without oneDNN";
#endif
  ExpectDone(Script("build.sh", Tiny32({"--prefill-lengths", "32"})));
  // The cold side would compile for seconds in each: a benchmark's is spared by sharing the store.
  const auto benchmark =
      Script("benchmark.sh", Tiny32({"--prompt", kSum, "--max-new-tokens", "4", "--num-requests", "2",
                                     "--repeats", "1", "--no-isolate-compiler-caches"}));
  ExpectDone(benchmark);
  EXPECT_THAT(benchmark.out, HasSubstr("=== Benchmark Summary ==="));
  const auto compare =
      Script("compare.sh", Tiny32({"--prompt", kSum, "--max-new-tokens", "4", "--compare-runs", "1"}));
  ExpectDone(compare);
  EXPECT_THAT(compare.out, HasSubstr("mode=skip trial=1: "));
  EXPECT_THAT(compare.out, HasSubstr("=== Comparison Summary ==="));
}

TEST_F(Scripts, AFailureIsTheBinarysOwn) {
  const auto result = Script("run.sh", {"--model-id", "/no/such"});
  ExpectError(result, 66, {"/no/such"});
}

}  // namespace
}  // namespace preheat::testing
