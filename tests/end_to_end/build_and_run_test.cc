// The main job: build an artifact, preload it, generate.
#include <unistd.h>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class BuildAndRun : public EndToEnd {
 protected:
  static std::string IdsOf(const sys::SpawnResult& result) { return LineAfter(result.out, "ids: "); }
};

TEST_F(BuildAndRun, BuildSaysWhatItDidAndWritesBothFiles) {
  const Built& tiny = Tiny();
  EXPECT_THAT(tiny.build.out, StartsWith("[build] model "));
  for (const char* phase : {"[build] prefill_32 captured and lowered: ", "[build] prefill_any captured",
                            "[build] decode captured", ": machine code: ", ": 3 programs: ",
                            "[build] tokenizer: ", "[build] artifact ", " kernels compiled, "}) {
    EXPECT_THAT(tiny.build.out, HasSubstr(phase));
  }
  EXPECT_EQ(tiny.build.err, "");
  EXPECT_TRUE(sys::Exists(tiny.artifact));
  EXPECT_TRUE(sys::Exists(tiny.metadata));
}

TEST_F(BuildAndRun, MetadataHasTheKeysOfTheOriginal) {
  const rapidjson::Document metadata = ParseJson(sys::ReadFile(Tiny().metadata));
  ExpectKeys(metadata, {"model_id", "compile", "warmup", "runtime_fingerprint", "cache_info", "cache_bytes"});
  ExpectKeys(metadata["compile"], {"mode", "fullgraph", "dynamic", "dtype", "cache_implementation"});
  ExpectKeys(metadata["warmup"], {"prefill_lengths", "decode_length", "batch_size", "timings"});
  ExpectKeys(metadata["runtime_fingerprint"],
             {"timestamp_utc", "python_version", "torch_version", "device_type", "gpu", "versions"});
  for (const auto& timing : metadata["warmup"]["timings"].GetArray()) {
    ExpectKeys(timing, {"stage", "prefill_length", "seconds"});
  }
  EXPECT_TRUE(metadata["compile"]["dynamic"].IsNull());
  EXPECT_EQ(metadata["warmup"]["prefill_lengths"][0].GetInt64(), 32);
  EXPECT_EQ(metadata["cache_bytes"].GetUint64(), sys::GetFileInfo(Tiny().artifact)->size_bytes);
}

TEST_F(BuildAndRun, BuildWithJsonPrintsTheMetadataAndNothingElse) {
  const auto result =
      Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths", "32",
               "--cache-path", File("a/b.bin"), "--metadata-path", File("c/d.json"), "--json"},
              WarmCache());
  ExpectDone(result);
  EXPECT_EQ(result.out, sys::ReadFile(File("c/d.json")));
}

TEST_F(BuildAndRun, DumpShowsTheWayAlsoOfWhatTheStoreHolds) {
  const Words words = {"build",       "--model-id",        TinyModel(),    "--compile-mode",
                       "default",     "--prefill-lengths", "32",           "--cache-path",
                       File("x.bin"), "--metadata-path",   File("x.json"), "--dump"};
  Words dumping = words;
  dumping.push_back(File("dump"));
  const auto result = Preheat(dumping, WarmCache());
  ExpectDone(result);
  EXPECT_THAT(result.out, HasSubstr(", 0 kernels compiled, "));
  const auto devices = ParseJson(Preheat({"devices", "--json"}).out);
  const std::string folder = File("dump") + "/" + devices["devices"][0]["targets"][0].GetString();
  EXPECT_THAT(sys::ListDir(folder), ElementsAre("decode", "prefill_32", "prefill_any"));
  EXPECT_THAT(sys::ReadFile(folder + "/decode/00_captured.ir"), StartsWith("graph \""));
  EXPECT_THAT(sys::ReadFile(folder + "/decode/schedules.txt"), HasSubstr("heuristic"));
  const auto program = ParseJson(sys::ReadFile(folder + "/decode/program.json"));
  EXPECT_EQ(program["name"].GetString(), std::string("decode"));
  size_t sources = 0;
  for (const std::string& name : sys::ListDir(folder + "/decode")) sources += name.ends_with(".cc");
  EXPECT_GE(sources, 5u);

  Words nowhere = words;
  nowhere.emplace_back("/proc/no/such");
  ExpectError(Preheat(nowhere, WarmCache()), 74, {"/proc/no/such: cannot be written"});
}

TEST_F(BuildAndRun, PreloadedRunGivesTheKnownAnswerAndCompilesNothing) {
  const auto result =
      Preheat(OnTiny("run", {"--prompt", kSum, "--forbid-compile", "--print-ids", "--emit-json-metrics"}));
  ExpectDone(result);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(LineAfter(result.out, "[run] prompt: "), kSum);
  EXPECT_EQ(LineAfter(result.out, "[run] completion: "), kSumAnswer);
  EXPECT_EQ(IdsOf(result), kSumIds);
  EXPECT_THAT(result.out, HasSubstr("[run] prompt_tokens=9 (effective 9), new_tokens=10\n"));
  EXPECT_THAT(result.out,
              HasSubstr("[run] counters: unique_graphs=0 calls_captured=0 async_compile_miss=0 "));
  EXPECT_THAT(result.out, Not(HasSubstr("differs")));
  const auto metrics = MetricsOf(result);
  ExpectNothingCompiled(metrics);
  EXPECT_EQ(metrics["aot_cache_hit"].GetInt64(), 2);  // one prefill, decode
  EXPECT_EQ(metrics["completion"].GetString(), std::string(kSumAnswer));
}

TEST_F(BuildAndRun, MetricsHaveEveryKeyOfTheContract) {
  const auto metrics = MetricsOf(Preheat(OnTiny("run", {"--prompt", kSum, "--emit-json-metrics"})));
  ExpectKeys(metrics, {"load_artifacts",
                       "artifact_bytes",
                       "artifact_load_seconds",
                       "model_load_seconds",
                       "setup_seconds",
                       "generation_seconds",
                       "prompt_tokens",
                       "prompt_tokens_original",
                       "prompt_tokens_effective",
                       "new_tokens",
                       "unique_graphs",
                       "calls_captured",
                       "async_compile_miss",
                       "async_compile_hit",
                       "fxgraph_cache_miss",
                       "fxgraph_cache_hit",
                       "aot_cache_miss",
                       "aot_cache_hit",
                       "cache_implementation",
                       "compile_dynamic",
                       "bucket_pad",
                       "prefill_buckets",
                       "total_script_seconds",
                       "compile_mode",
                       "fullgraph",
                       "dtype",
                       "model_id",
                       "completion",
                       "first_token_seconds",
                       "page_cache_resident",
                       "device",
                       "target",
                       "execution"});
  EXPECT_LE(metrics["setup_seconds"].GetDouble(), metrics["first_token_seconds"].GetDouble());
  EXPECT_LE(metrics["first_token_seconds"].GetDouble(), metrics["total_script_seconds"].GetDouble());
  EXPECT_GE(metrics["page_cache_resident"].GetDouble(), 0);
  EXPECT_LE(metrics["page_cache_resident"].GetDouble(), 1);
}

TEST_F(BuildAndRun, QuietLeavesResults) {
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--quiet", "--print-ids"}));
  ExpectDone(result);
  EXPECT_EQ(result.out, std::string(kSumAnswer) + "\nids: " + kSumIds + "\n");
}

TEST_F(BuildAndRun, VerboseTellsWhatAStartIsMadeOf) {
  const auto result =
      Preheat(OnTiny("run", {"--prompt", kSum, "--print-ids", "--verbose", "--device", "cpu"}));
  ExpectDone(result);
  EXPECT_EQ(LineAfter(result.out, "ids: "), kSumIds);
  EXPECT_THAT(result.err,
              ::testing::ContainsRegex("preheat: cpu is ready [0-9.]+ s after the process's start\n"
                                       "preheat: machine code loaded: [0-9]+ images in [0-9.]+ ms\n"
                                       "preheat: weights are in place [0-9.]+ s after the process's "
                                       "start\n"));
}

TEST_F(BuildAndRun, PaddingChangesNothingButTheProgram) {
  const auto result =
      Preheat(OnTiny("run", {"--prompt", kSum, "--bucket-pad", "--print-ids", "--forbid-compile"}));
  ExpectDone(result);
  EXPECT_EQ(IdsOf(result), kSumIds);
  EXPECT_THAT(result.out, HasSubstr("prompt_tokens=9 (effective 32)"));
}

TEST_F(BuildAndRun, APromptThatNoBucketHoldsRunsUnpaddedAndSaysSo) {
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--bucket-pad", "--prefill-buckets", "4",
                                             "--print-ids", "--forbid-compile"}));
  ExpectDone(result);
  EXPECT_EQ(IdsOf(result), kSumIds);
  EXPECT_THAT(result.out, HasSubstr("no bucket holds the prompt's 9 tokens (buckets: 4): it runs unpadded"));
}

TEST_F(BuildAndRun, WithoutMetadataTheCheckIsSkippedAndPaddingNeedsBuckets) {
  Words words = OnTiny("run", {"--prompt", kSum, "--bucket-pad", "--forbid-compile", "--print-ids"});
  words.insert(words.end(), {"--metadata-path", File("none.json")});
  auto result = Preheat(words);
  ExpectDone(result);
  EXPECT_THAT(result.out, HasSubstr("is missing: the compatibility check is skipped"));
  EXPECT_THAT(result.out,
              HasSubstr("no buckets are known, so the prompt is not padded: give --prefill-buckets"));
  words.insert(words.end(), {"--prefill-buckets", "32, 64"});
  result = Preheat(words);
  EXPECT_THAT(result.out, HasSubstr("(effective 32)"));
  EXPECT_EQ(IdsOf(result), kSumIds);
}

TEST_F(BuildAndRun, PromptIdsAreTakenAsTheyAre) {
  const auto result = Preheat(OnTiny(
      "run", {"--prompt-ids", "2038, 429,301,220,737,466,220,22,30", "--print-ids", "--forbid-compile"}));
  ExpectDone(result);
  EXPECT_EQ(IdsOf(result), kSumIds);
  EXPECT_THAT(result.out, Not(HasSubstr("prompt: ")));
}

TEST_F(BuildAndRun, PromptIdsNeedNoTokenizer) {
  const std::string model = CopyOfTiny();
  sys::RemoveFile(model + "/tokenizer.json");
  const auto result =
      Preheat(OnTiny("run", {"--model-id", model, "--prompt-ids", "2038,429,301,220,737,466,220,22,30",
                             "--print-ids", "--forbid-compile", "--quiet"}));
  ExpectDone(result);
  EXPECT_EQ(result.out, std::string("\nids: ") + kSumIds + "\n");
  ExpectError(Preheat(OnTiny("run", {"--model-id", model, "--prompt", kSum})), 66,
              {"tokenizer.json", "--prompt-ids"});
}

TEST_F(BuildAndRun, AnEmptyPromptIsTheFirstTokenAlone) {
  const auto text = Preheat(OnTiny("run", {"--prompt", "", "--max-new-tokens", "3", "--print-ids"}));
  const auto ids = Preheat(OnTiny("run", {"--prompt-ids", "2038", "--max-new-tokens", "3", "--print-ids"}));
  ExpectDone(text);
  EXPECT_THAT(text.out, HasSubstr("prompt_tokens=1 "));
  EXPECT_EQ(IdsOf(text), IdsOf(ids));
}

TEST_F(BuildAndRun, OneNewTokenIsOne) {
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--max-new-tokens", "1", "--print-ids"}));
  ExpectDone(result);
  EXPECT_EQ(IdsOf(result), "220");
  EXPECT_THAT(result.out, HasSubstr("new_tokens=1\n"));
}

TEST_F(BuildAndRun, IgnoringTheEndGoesOnAfterIt) {
  const auto result =
      Preheat(OnTiny("run", {"--prompt", kSum, "--max-new-tokens", "30", "--ignore-eos", "--print-ids"}));
  ExpectDone(result);
  EXPECT_THAT(IdsOf(result), StartsWith(std::string(kSumIds) + ","));
  EXPECT_THAT(result.out, HasSubstr("new_tokens=30\n"));
}

TEST_F(BuildAndRun, MoreNewTokensThanBuiltForIsToldAndCompilesNothing) {
  const auto result = Preheat(OnTiny(
      "run", {"--prompt", kSum, "--max-new-tokens", "200", "--forbid-compile", "--emit-json-metrics"}));
  ExpectDone(result);
  EXPECT_THAT(result.out, HasSubstr("--max-new-tokens 200 is more than the build's decode length 128"));
  ExpectNothingCompiled(MetricsOf(result));
}

TEST_F(BuildAndRun, AllExecutionsGiveTheSameTokens) {
  for (const char* execution : {"compiled", "eager", "interpreter"}) {
#ifndef PREHEAT_HAS_EAGER
    if (std::string(execution) == "eager") continue;
#endif
    const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--execution", execution, "--print-ids"}));
    ExpectDone(result);
    EXPECT_EQ(IdsOf(result), kSumIds) << execution;
  }
}

TEST_F(BuildAndRun, EagerHasItsTagAndNeedsNoArtifact) {
#ifndef PREHEAT_HAS_EAGER
  GTEST_SKIP() << "[SKIP] built without oneDNN";
#endif
  const auto result = Preheat({"eager", "--model-id", TinyModel(), "--prompt", kSum, "--emit-json-metrics"});
  ExpectDone(result);
  EXPECT_EQ(LineAfter(result.out, "[eager] completion: "), kSumAnswer);
  EXPECT_THAT(result.out, Not(HasSubstr("[run]")));
  ExpectNothingCompiled(MetricsOf(result));
}

TEST_F(BuildAndRun, ASeedMakesSamplingRepeatable) {
  const auto sample = [&](const char* seed) {
    return IdsOf(Preheat(OnTiny("run", {"--prompt", "Tell me a story", "--temperature", "1.5", "--seed", seed,
                                        "--max-new-tokens", "24", "--print-ids"})));
  };
  const std::string first = sample("5");
  EXPECT_EQ(sample("5"), first);
  EXPECT_NE(sample("6"), first);
}

TEST_F(BuildAndRun, CharactersSplitOverTokensComeOutWhole) {
  const auto result = Preheat(OnTiny("run", {"--prompt", "Say hello in Japanese.", "--quiet"}));
  ExpectDone(result);
  EXPECT_THAT(result.out, HasSubstr("こんにちは"));
}

TEST_F(BuildAndRun, TheSameModelInAnotherFolderFitsAndIsNotCalledDifferent) {
  const std::string folder = File("elsewhere");
  sys::MakeDirs(folder);
  const std::string link = folder + "/tiny-instruct";
  ASSERT_EQ(::symlink(TinyModel().c_str(), link.c_str()), 0);
  const auto result = Preheat(OnTiny("run", {"--model-id", link, "--prompt", kSum, "--forbid-compile"}));
  ExpectDone(result);
  EXPECT_THAT(result.out, Not(HasSubstr("differs")));
}

}  // namespace
}  // namespace preheat::testing
