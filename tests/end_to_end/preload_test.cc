// Preloading compiles nothing and needs nothing: no compiler, no PATH, no cache folder; and preheat-run is
// one file.
#include <algorithm>
#include <sstream>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Preload : public EndToEnd {
 protected:
  // Fails where the tool fails; nullopt where this machine has no such tool.
  static std::optional<std::string> OutputOf(const std::string& tool, const Words& words) {
    if (!sys::FindInPath(tool)) return std::nullopt;
    Words argv = {tool};
    argv.insert(argv.end(), words.begin(), words.end());
    const auto result = sys::Spawn(argv);
    ExpectDone(result);
    return result.out;
  }
  static bool Sanitized() { return std::string(PREHEAT_SANITIZED) != ""; }
};

TEST_F(Preload, WorksWithNoProgramInReachAndNoCacheFolder) {
  Environment bare = NoPrograms();
  bare.emplace_back("PREHEAT_CACHE_DIR", "/proc/no/such/folder");
  const Words options = {"--prompt", kSum, "--forbid-compile", "--print-ids", "--emit-json-metrics"};
  for (const auto& result : {Preheat(OnTiny("run", options), bare), PreheatRun(OnTiny("", options), bare)}) {
    ExpectDone(result);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(LineAfter(result.out, "ids: "), kSumIds);
    ExpectNothingCompiled(MetricsOf(result));
  }
}

TEST_F(Preload, APathThatIsNoFolderAsCacheDoesNotMatter) {
  const auto result =
      PreheatRun(OnTiny("", {"--prompt", kSum}), {{"PREHEAT_CACHE_DIR", Tiny().metadata}, {"PATH", ""}});
  ExpectDone(result);
  EXPECT_EQ(LineAfter(result.out, "[run] completion: "), kSumAnswer);
}

TEST_F(Preload, LeavesNoCacheFolderBehind) {
  ExpectDone(Preheat(OnTiny("run", {"--prompt", kSum})));
  EXPECT_FALSE(sys::Exists(File("cache")));
}

TEST_F(Preload, AWarmStoreServesARunWithoutTheArtifact) {
  Environment warm = NoPrograms();
  warm.emplace_back("PREHEAT_CACHE_DIR", Tiny().cache);
  const auto result =
      Preheat(OnTiny("run", {"--prompt", kSum, "--no-load-artifacts", "--emit-json-metrics"}), warm);
  ExpectDone(result);
  const auto metrics = MetricsOf(result);
  ExpectNothingCompiled(metrics);
  EXPECT_FALSE(metrics["load_artifacts"].GetBool());
  EXPECT_EQ(metrics["artifact_bytes"].GetInt64(), 0);
}

TEST_F(Preload, ASecondBuildCompilesNothing) {
  const auto result =
      Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths", "32",
               "--cache-path", File("again.bin"), "--metadata-path", File("again.json")},
              WarmCache());
  ExpectDone(result);
  EXPECT_THAT(result.out, HasSubstr(", 0 kernels compiled, "));
  // The same entries under the same hashes; who compiled them is known to the first build only.
  const auto first = ParseJson(Preheat({"inspect", Tiny().artifact, "--json"}).out);
  const auto second = ParseJson(Preheat({"inspect", File("again.bin"), "--json"}).out);
  EXPECT_TRUE(first["entries"] == second["entries"]);
}

TEST_F(Preload, AnArtifactForALowerTargetRunsHere) {
  const auto built =
      Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths", "32",
               "--compile-dynamic", "false", "--targets", "x86-64-v3", "--cache-path", File("v3.bin"),
               "--metadata-path", File("v3.json")});
  ExpectDone(built);
  const auto result =
      PreheatRun({"--model-id", TinyModel(), "--compile-mode", "default", "--cache-path", File("v3.bin"),
                  "--metadata-path", File("v3.json"), "--compile-dynamic", "false", "--bucket-pad",
                  "--prompt", kSum, "--print-ids", "--emit-json-metrics"},
                 {{"PREHEAT_CACHE_DIR", File("other-cache")}});
  ExpectDone(result);
  EXPECT_EQ(LineAfter(result.out, "ids: "), kSumIds);
  EXPECT_EQ(MetricsOf(result)["target"].GetString(), std::string("x86-64-v3"));
}

TEST_F(Preload, ASynthesizedModelRunsFromItsOwnArtifact) {
  sys::WriteFileAtomic(File("shape.json"), std::string_view(R"({"model_type": "llama", "hidden_size": 64,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
      "vocab_size": 512, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"})"));
  const std::string model = File("new/model");
  auto synth = Preheat({"synth", "--shape", File("shape.json"), "--output", model, "--shards", "2"});
  ExpectDone(synth);
  EXPECT_THAT(synth.out, HasSubstr("[synth] wrote " + model));
  ExpectError(Preheat({"synth", "--shape", File("shape.json"), "--output", model}), 2, {"is not empty"});
  const Words shared = {"--model-id",        model,           "--compile-mode", "default",
                        "--compile-dynamic", "true",          "--cache-path",   File("syn.bin"),
                        "--metadata-path",   File("syn.json")};
  Words build = {"build"};
  build.insert(build.end(), shared.begin(), shared.end());
  ExpectDone(Preheat(build));
  Words run = shared;
  run.insert(run.end(), {"--prompt", "Hi.", "--max-new-tokens", "5", "--ignore-eos", "--print-ids"});
  const auto result = PreheatRun(run, NoPrograms());
  ExpectDone(result);
  const std::string ids = LineAfter(result.out, "ids: ");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), ','), 4) << ids;
}

TEST_F(Preload, RunBinaryNeedsNothingButGlibc) {
  if (Sanitized()) GTEST_SKIP() << "[SKIP] a sanitizer's libraries are linked in";
  const auto libraries = OutputOf("ldd", {PREHEAT_RUN_BINARY});
  if (!libraries) GTEST_SKIP() << "[SKIP] no ldd here";
  std::istringstream lines(*libraries);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    bool known = false;
    for (const char* name : {"linux-vdso.so", "libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}) {
      known |= line.find(name) != std::string::npos;
    }
    EXPECT_TRUE(known) << line;
  }
  EXPECT_GE(count, 2);
}

TEST_F(Preload, BinariesNeedNoNewerGlibcThanDebian12) {
  for (const char* binary : {PREHEAT_RUN_BINARY, PREHEAT_BINARY}) {
    const auto symbols = OutputOf("objdump", {"-T", binary});
    if (!symbols) GTEST_SKIP() << "[SKIP] no objdump here";
    size_t found = 0;
    for (size_t at = 0; (at = symbols->find("GLIBC_2.", at)) != std::string::npos; ++found) {
      at += sizeof("GLIBC_2.") - 1;
      EXPECT_LE(std::stoi(symbols->substr(at, 3)), 36) << symbols->substr(symbols->rfind('\n', at) + 1, 120);
    }
    EXPECT_GT(found, 0u);
  }
}

TEST_F(Preload, RunBinaryHoldsNoCompiler) {
  if (Sanitized()) GTEST_SKIP() << "[SKIP] a sanitizer's libraries are linked in";
  const auto symbols = OutputOf("nm", {"-C", PREHEAT_RUN_BINARY});
  if (!symbols) GTEST_SKIP() << "[SKIP] no nm here";
  if (symbols->find("preheat::preload::") == std::string::npos)
    GTEST_SKIP() << "[SKIP] the binary is stripped";
  for (const char* room : {"ir", "capture", "passes", "codegen", "toolchain", "tune", "compile", "eager"}) {
    EXPECT_THAT(symbols->find(std::string("preheat::") + room + "::"), std::string::npos) << room;
  }
}

TEST_F(Preload, RunBinaryRefusesWhatNeedsACompiler) {
  ExpectError(PreheatRun(OnTiny("", {"--execution", "eager"})), 2,
              {"preheat-run: error: ", "use preheat run"});
  ExpectError(PreheatRun(OnTiny("", {"--execution", "interpreter"})), 2, {"only preloads"});
  ExpectError(PreheatRun(OnTiny("", {"--compare-load-vs-skip"})), 2, {"nothing to compare"});
  ExpectError(PreheatRun(OnTiny("", {"--prompt", kSum, "--no-load-artifacts"})), 3,
              {"would have to compile, which is forbidden", "prefill_any", "decode"});
}

}  // namespace
}  // namespace preheat::testing
