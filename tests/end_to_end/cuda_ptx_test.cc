// PTX in an artifact: carried if asked for, compiled by the driver of a card that lacks machine code, and
// told.
#include <algorithm>
#include <map>
#include <string>

#include "end_to_end/cuda.h"

namespace preheat::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CudaPtx : public CudaEndToEnd {
 protected:
  // An artifact of the tiny model for these targets, as File("a").
  void Build(const std::string& targets) const {
    ExpectDone(Preheat(BuildWords("a", {"--targets", targets}), Card("cards=0")));
  }
  // Logits on the fake card, where kernels do nothing but are loaded: which target ran.
  sys::SpawnResult Logits(const std::string& card, const Words& more = {}) const {
    Words words = {"logits",       "--model-id",  TinyModel(),       "--prompt-ids",
                   "5,6,7",        "--output",    File("l"),         "--json",
                   "--cache-path", File("a.bin"), "--metadata-path", File("a.json")};
    words.insert(words.end(), more.begin(), more.end());
    return Preheat(words, Card(card));
  }
  static std::string TargetOf(const sys::SpawnResult& result) {
    ExpectDone(result);
    return ParseJson(result.out)["target"].GetString();
  }
};

constexpr char kTold[] = " runs without machine code for ";

TEST_F(CudaPtx, IsCarriedOnlyIfAskedFor) {
  ExpectDone(Preheat(BuildWords("a"), Card("capability=86")));
  EXPECT_EQ(ParseJson(Preheat({"inspect", File("a.bin"), "--json"}).out)["targets"].Size(), 1u);
  EXPECT_THAT(sys::ReadFile(File("a.bin")), Not(HasSubstr("compute_")));
  EXPECT_THAT(Preheat({"inspect", File("a.bin")}).out, Not(HasSubstr("PTX")));

  const auto build = Preheat(BuildWords("a", {"--targets", "native,compute_90,compute_80"}), Card());
  ExpectDone(build);
  EXPECT_THAT(build.out, AllOf(HasSubstr("compute_90: PTX: "), HasSubstr("sm_90a: machine code: "),
                               HasSubstr("targets compute_80,compute_90,sm_90a, ")));
  EXPECT_EQ(FingerprintOf("a")["device_type"].GetString(), std::string("cuda"));
  const auto inspect = Preheat({"inspect", File("a.bin")});
  EXPECT_THAT(inspect.out, AllOf(HasSubstr("\ncompute_90: PTX, which the driver of a card of that "),
                                 HasSubstr("memory for compute_90 at 160 positions: "),
                                 HasSubstr(" of the card's, beside what its driver takes\n")));
  ExpectError(Preheat(BuildWords("a", {"--targets", "compute_86"}), Card()), 2,
              {"unknown target \"compute_86\"", "compute_80, compute_90, compute_100, compute_120"});
}

TEST_F(CudaPtx, IsNotMeasuredAlsoWhereItsCardIs) {
  Words words = BuildWords("a", {"--targets", "compute_90", "--dump", File("dump")});
  std::ranges::replace(words, std::string("default"), std::string("max-autotune"));
  const auto build = Preheat(words, Card());
  ExpectDone(build);
  EXPECT_THAT(build.out, HasSubstr("compute_90: tuning: 0.0000s"));
  EXPECT_EQ(build.err, "");
  EXPECT_THAT(Preheat({"inspect", File("a.bin")}).out, Not(HasSubstr("profile Fake card")));
  const std::string folder = File("dump") + "/compute_90/decode/";
  EXPECT_THAT(sys::ReadFile(folder + "schedules.txt"), Not(HasSubstr("measured")));
  EXPECT_THAT(sys::ReadFile(folder + "resources.txt"),
              AllOf(HasSubstr("matmul: PTX: registers and spills are not known before a card's driver"),
                    Not(HasSubstr("0 registers"))));
}

TEST_F(CudaPtx, TheCardsOwnMachineCodeComesFirstThenTheNewestPtxThatItRuns) {
  Build("sm_80,compute_80,compute_90,compute_120");
  const std::map<std::string, std::string> expected = {{"80", "sm_80"},        {"86", "sm_80"},
                                                       {"90", "compute_90"},   {"100", "compute_90"},
                                                       {"120", "compute_120"}, {"130", "compute_120"}};
  for (const auto& [capability, target] : expected) {
    const auto result = Logits("capability=" + capability, {"--forbid-compile"});
    EXPECT_EQ(TargetOf(result), target) << capability;
    EXPECT_EQ(result.err.find(kTold) != std::string::npos, target.starts_with("compute_")) << result.err;
  }
}

TEST_F(CudaPtx, WhatTheDriverCompilesIsToldOnceAndCountsAsNoMachineCode) {
  Build("sm_80,compute_90");
  const auto result = Logits("capability=100", {"--forbid-compile"});
  ExpectDone(result);
  EXPECT_THAT(result.err, ::testing::MatchesRegex(
                              "preheat: warning: Fake card \\(compute capability 10\\.0\\) runs without "
                              "machine code for sm_100: its driver compiled [0-9]+ kernels from PTX of "
                              "compute_90, which took [0-9]+\\.[0-9]+ s\n"));
  // Only preloading is left to preheat-run, and it may: the kernels of the fake card report no token.
  const auto run = PreheatRun(On("a", ""), Card("capability=100"));
  ExpectError(run, 69, {kTold, "all steps ended and the token did not come"});
  EXPECT_THAT(run.out, Not(HasSubstr("differs in targets")));
}

TEST_F(CudaPtx, WithoutItInTheArtifactACardGetsMachineCodeOfItsOwn) {
  Build("sm_80");
  // It is made where a user names it, and then the driver compiles it.
  const auto named = Logits("capability=90", {"--target", "compute_80"});
  EXPECT_EQ(TargetOf(named), "compute_80");
  EXPECT_THAT(named.err, HasSubstr(kTold));
  // What the store has of it since then is for nobody else.
  const auto result = Logits("capability=90");
  EXPECT_EQ(TargetOf(result), "sm_90a");
  EXPECT_EQ(result.err, "");
  ExpectError(Logits("capability=80", {"--target", "compute_90"}), 4, {"has compute capability 8.0"});
}

TEST_F(CudaPtx, ACardNewerThanAllMachineCodeIsToldSoAndOfPtx) {
  Build("sm_80");
  const std::string artifact = File("a.bin");
  ExpectError(PreheatRun(On("a", "", {"--device", "cuda"}), Card("capability=90")), 4,
              {artifact +
               ": made for sm_80, but this card (Fake card) runs sm_90a; build with --targets sm_90a, "
               "or use an artifact built with --targets compute_90: PTX, which the card's driver compiles"});
  const Environment future = Card("capability=130");
  ExpectError(
      PreheatRun(On("a", "", {"--device", "cuda"}), future), 4,
      {artifact + ": made for sm_80, but this card (Fake card) runs no machine code of ours; use an "
                  "artifact built with --targets compute_120: PTX, which the card's driver compiles"});
  ExpectError(Preheat(On("a", "run", {"--device", "cuda"}), future), 4,
              {artifact + " is for sm_80, and Fake card runs no machine code of ours: ",
               "or an artifact built with --targets compute_120"});
  ExpectError(Preheat(BuildWords("b", {"--device", "cuda"}), future), 4,
              {"it runs none of the targets that preheat compiles for", "--targets compute_120: PTX"});
  // Unasked, the CPU runs it; with PTX for it, the card does.
  const auto cpu = Preheat(On("a", "run"), future);
  ExpectDone(cpu);
  EXPECT_THAT(cpu.err, AllOf(HasSubstr("no card is used: Fake card has compute capability 13.0, and "),
                             HasSubstr("or an artifact built with --targets compute_120: PTX")));
  Build("compute_80");
  EXPECT_EQ(TargetOf(Logits("capability=130")), "compute_80");
  const auto skipped = Preheat(On("a", "run", {"--no-load-artifacts"}), future);
  ExpectDone(skipped);
  EXPECT_THAT(skipped.err, HasSubstr("no card is used: "));
}

TEST_F(CudaPtx, WhatAnArtifactsPtxLacksIsSaidWhereNothingCanBeCompiled) {
  Build("compute_90");
  const auto run = [&](const Words& more) {
    Words words = {"--device", "cuda"};
    words.insert(words.end(), more.begin(), more.end());
    return Preheat(On("a", "run", words), Card("capability=130"));
  };
  ExpectError(run({"--compile-mode", "max-autotune", "--forbid-compile"}), 3, {"mode"});
  ExpectError(run({"--compile-mode", "max-autotune"}), 3, {"mode"});
  ExpectError(
      Logits("capability=130", {"--device", "cuda", "--target", "sm_90a"}), 4,
      {"code for target sm_90a: Fake card has compute capability 13.0 and runs compute_120, compute_100, "
       "compute_90, compute_80; build for one of those"});
}

// A mode that does not load it has nothing to run there, which is said: it is not measured on the CPU
// instead.
TEST_F(CudaPtx, ModesAreComparedOnOneDevice) {
  Build("compute_90");
  const auto benchmark = Preheat(On("a", "benchmark", {"--num-requests", "1"}), Card("capability=130"));
  ExpectError(benchmark, 1,
              {"a trial's process ended", "it runs none of the targets that preheat compiles for"});
}

TEST_F(CudaPtx, VerifyAndDevicesSayWhatItIs) {
  Build("compute_90");
  const auto verify = [&](const std::string& capability) {
    return Preheat({"verify", File("a.bin")}, Card("capability=" + capability));
  };
  const auto fits = verify("100");
  EXPECT_EQ(fits.exit_code, 0);
  EXPECT_THAT(fits.out,
              HasSubstr("decode (compute_90, profile default): usable: target: PTX, which this card's "
                        "driver compiles when it is loaded, where there is no machine code for sm_100\n"));
  const auto future = verify("130");
  EXPECT_EQ(future.exit_code, 0);
  EXPECT_THAT(future.out,
              HasSubstr(": usable: target: PTX, which this card's driver compiles when it is loaded\n"));
  const auto older = verify("80");
  EXPECT_EQ(older.exit_code, 4);
  EXPECT_THAT(older.out, HasSubstr("unusable: target: needs compute_90, this machine runs compute_80\n"));

  const auto devices = ParseJson(Preheat({"devices", "--json"}, Card("capability=130")).out);
  EXPECT_EQ(devices["devices"][1]["targets"].Size(), 0u);
  ASSERT_EQ(devices["devices"][1]["ptx_targets"].Size(), 4u);
  EXPECT_EQ(devices["devices"][1]["ptx_targets"][0].GetString(), std::string("compute_120"));
  EXPECT_FALSE(devices["devices"][0].HasMember("ptx_targets"));
  EXPECT_THAT(Preheat({"devices"}, Card()).out,
              HasSubstr("  targets: sm_90a\n  PTX, which its driver compiles where an artifact carries it: "
                        "compute_90, compute_80\n"));
}

TEST_F(CudaPtx, PtxThatTheDriverRefusesIsExplained) {
  Build("compute_90");
  const auto refused = [&](const std::string& how, const Words& texts) {
    const auto result = PreheatRun(On("a", ""), Card("version=12020 ptx=" + how));
    ExpectError(
        result, 69,
        {"compiling PTX of compute_90 (version 9.0) by the driver, which is of CUDA 12.2, for Fake card "
         "(ptxas fatal: of the fake card) failed: "});
    ExpectError(result, 69, texts);
    EXPECT_THAT(result.err, Not(HasSubstr(kTold)));
  };
  refused("222",
          {"an NVRTC made it that is newer than the driver: install a newer driver, or build with an"});
  refused("218", {"build the artifact again, with an NVRTC that is no newer than the driver"});
  refused("221", {"libnvidia-ptxjitcompiler.so.1, is missing"});
  refused("223", {"CUDA_DISABLE_PTX_JIT forbids it: unset that"});
}

}  // namespace
}  // namespace preheat::testing
