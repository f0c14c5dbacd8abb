#include "cli/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_for_test.h"
#include "cli/options.h"
#include "cli/suggest.h"

namespace preheat::cli {
namespace {

using base::Complaint;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Suggest, FindsTheNearestWord) {
  EXPECT_EQ(EditDistance("benchmark", "benchmrak"), 1);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  const std::vector<std::string> words = {"build", "run", "benchmark"};
  EXPECT_EQ(Nearest("bild", words), "build");
}

TEST(Arguments, TheLastOfARepeatedOptionWins) {
  const auto options = ParseRun("run", {"--max-new-tokens", "5", "--dtype", "fp32", "--max-new-tokens", "7",
                                        "--no-fullgraph", "--fullgraph"});
  EXPECT_EQ(options->generation.max_new_tokens, 7);
  EXPECT_EQ(options->shared.dtype, "fp32");
  EXPECT_TRUE(options->shared.fullgraph);
}

TEST(Arguments, AnUnknownOptionNamesTheNearest) {
  EXPECT_THAT(Complaint([] {
                ParseRun("run", {"--max-new-token", "5"});
              }),
              HasSubstr("did you mean --max-new-tokens?"));
  EXPECT_THAT(Complaint([] { ParseBuild({"--fulgraph"}); }), HasSubstr("did you mean --fullgraph?"));
}

TEST(Arguments, AnUnknownValueNamesTheNearest) {
  EXPECT_THAT(Complaint([] {
                ParseRun("run", {"--compile-mode", "max-autotun"});
              }),
              HasSubstr("did you mean max-autotune?"));
  EXPECT_THAT(Complaint([] { ParseRun("run", {"--dtype", "bf61"}); }), HasSubstr("did you mean bf16?"));
}

TEST(Arguments, NumbersOutsideTheirRangeAreRefused) {
  for (const char* bad : {"0", "-3", "many", "1.5", ""}) {
    EXPECT_THAT(Complaint([&] {
                  ParseRun("run", {"--max-new-tokens", bad});
                }),
                HasSubstr("--max-new-tokens"))
        << bad;
  }
  EXPECT_THAT(Complaint([] { ParseRun("run", {"--temperature", "-0.5"}); }), HasSubstr("--temperature"));
  EXPECT_THAT(Complaint([] { ParseRun("run", {"--temperature", "nan"}); }), HasSubstr("--temperature"));
  EXPECT_THAT(Complaint([] { ParseBenchmark({"--num-requests", "0"}); }), HasSubstr("--num-requests"));
  EXPECT_THAT(Complaint([] { ParseBenchmark({"--repeats", "0"}); }), HasSubstr("--repeats"));
}

TEST(Arguments, AMissingValueIsAUsageError) {
  Complaint([] { ParseRun("run", {"--prompt"}); });
}

TEST(Arguments, AStrayWordIsAUsageError) {
  EXPECT_THAT(Complaint([] { ParseRun("run", {"hello"}); }), HasSubstr("unexpected argument hello"));
}

TEST(ParseLengths, SkipsBlanksAndEmptyItemsAndRepeats) {
  EXPECT_THAT(ParseLengths("--prefill-lengths", " 256, ,128,,256 ", false), ElementsAre(128, 256));
  EXPECT_TRUE(ParseLengths("--prefill-buckets", " , ", true).empty());
}

TEST(ParseLengths, RefusesWhatIsNoLength) {
  for (const char* bad : {"0", "-1", "128,x", "1e3", "99999999999999999999", "", " , "}) {
    EXPECT_THAT(Complaint([&] {
                  ParseBuild({"--prefill-lengths", bad});
                }),
                HasSubstr("--prefill-lengths"))
        << bad;
  }
}

TEST(ParseIds, KeepsOrderAndRefusesNegatives) {
  EXPECT_THAT(ParseIds("--prompt-ids", "5,3,5"), ElementsAre(5, 3, 5));
  EXPECT_THAT(Complaint([] { ParseIds("--prompt-ids", "5,-1"); }), HasSubstr("-1"));
  EXPECT_THAT(Complaint([] { ParseIds("--prompt-ids", ""); }), HasSubstr("at least one"));
}

TEST(Options, PromptAndIdsExcludeEachOther) {
  EXPECT_THAT(Complaint([] {
                ParseRun("run", {"--prompt", "a", "--prompt-ids", "1"});
              }),
              HasSubstr("excludes"));
}

TEST(Options, WhatDoesNotExistYetIsUnsupportedAndSaysSo) {
  EXPECT_THAT(Complaint(
                  [] {
                    ParseBuild({"--batch-size", "2"});
                  },
                  base::ErrorKind::kUnsupported),
              HasSubstr("--batch-size 2"));
  EXPECT_THAT(Complaint([] { ParseRun("run", {"--chat"}); }, base::ErrorKind::kUnsupported),
              HasSubstr("--chat"));
}

TEST(Options, WhatMustCompileCannotForbidIt) {
  EXPECT_THAT(Complaint([] { ParseRun("compare", {"--forbid-compile"}); }), HasSubstr("must compile"));
  EXPECT_THAT(Complaint([] { ParseBenchmark({"--forbid-compile"}); }), HasSubstr("must compile"));
  EXPECT_TRUE(
      ParseBenchmark({"--forbid-compile", "--single-mode", "compile_preload"})->generation.forbid_compile);
}

TEST(Options, DefaultsAreTheOriginalWorkflows) {
  const auto run = ParseRun("run", {});
  EXPECT_EQ(run->shared.model_id, "meta-llama/Llama-3.2-3B-Instruct");
  EXPECT_EQ(run->shared.cache_path, "artifacts/llama3b_torchcompile_cache.bin");
  EXPECT_EQ(run->shared.compile_mode, "max-autotune");
  EXPECT_EQ(run->generation.max_new_tokens, 128);
  EXPECT_FALSE(run->generation.bucket_pad);
  EXPECT_TRUE(run->load_artifacts);
  const auto benchmark = ParseBenchmark({});
  EXPECT_EQ(benchmark->num_requests, 3);
  EXPECT_TRUE(benchmark->generation.bucket_pad);
  EXPECT_TRUE(benchmark->fixed_new_tokens);
  const auto build = ParseBuild({});
  EXPECT_THAT(build->prefill_lengths, ElementsAre(128, 256, 512, 1024));
}

TEST(Options, ADevicesNameIsChecked) {
  DeviceOptions options;
  for (const char* good : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"}) {
    options.device = good;
    EXPECT_NO_THROW(ApplyDeviceOptions(options)) << good;
  }
  for (const char* bad : {"gpu", "cuda:", "cuda:x", "cuda0", "cuda:12345"}) {
    options.device = bad;
    EXPECT_THAT(Complaint([&] { ApplyDeviceOptions(options); }), HasSubstr("Valid values"));
  }
}

}  // namespace
}  // namespace preheat::cli
