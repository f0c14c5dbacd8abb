// Each way in which a card, its driver or the code for it fails a user: message and exit code.
#include <dlfcn.h>

#include <algorithm>

#include "end_to_end/cuda.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CudaErrors : public CudaEndToEnd {
 protected:
  // An artifact of the tiny model for sm_90a, as File("a").
  void SetUp() override { ExpectDone(Preheat(BuildWords("a", {"--targets", "sm_90a"}), Card("cards=0"))); }
  sys::SpawnResult Run(const Environment& environment, const std::string& device = "cuda") const {
    return Preheat(On("a", "run", {"--device", device}), environment);
  }
};

TEST_F(CudaErrors, NoDriver) {
  if (void* real = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    ::dlclose(real);
    GTEST_SKIP() << "[SKIP] this machine has a driver";
  }
  const Environment none = With(Card(), "LD_LIBRARY_PATH", std::nullopt);
  ExpectError(Run(none), 69, {"no NVIDIA driver: libcuda.so.1: ", "install the driver, or use --device cpu"});
  const auto cpu = Run(none, "auto");
  ExpectDone(cpu);
  EXPECT_THAT(cpu.out, HasSubstr("differs in device_type: built cuda, this run cpu\n"));
}

TEST_F(CudaErrors, ADriverThatIsTooOld) {
  const Environment old = Card("version=11040");
  ExpectError(Run(old), 69,
              {"NVIDIA driver: version 11.4 of its interface, and at least 12.0 is needed: install a newer"});
  // Unasked, the CPU runs it, and why no card does is said.
  const auto cpu = Run(old, "auto");
  ExpectDone(cpu);
  EXPECT_THAT(cpu.err, HasSubstr("warning: no card is used: NVIDIA driver: version 11.4"));
  const auto devices = Preheat({"devices", "--json"}, old);
  ExpectDone(devices);
  EXPECT_EQ(ParseJson(devices.out)["devices"].Size(), 1u);
  EXPECT_THAT(devices.err, HasSubstr("install a newer driver"));
}

TEST_F(CudaErrors, ADriverThatDoesNotStart) {
  ExpectError(Run(Card("init=803")), 69,
              {"starting the NVIDIA driver failed: ", "803", "restart the machine"});
}

TEST_F(CudaErrors, ACardThatIsNotThere) {
  ExpectError(Run(Card(), "cuda:7"), 69, {"--device cuda:7: there is only cuda:0; `preheat devices`"});
  ExpectError(Run(Card("cards=4"), "cuda:4"), 69, {"--device cuda:4: there are only cuda:0 to cuda:3"});
  ExpectError(Run(Card("cards=0")), 69, {"no CUDA device: the NVIDIA driver finds no card", "--device cpu"});
}

TEST_F(CudaErrors, CardsThatAVariableHides) {
  const Environment hidden = With(Card("cards=2"), "CUDA_VISIBLE_DEVICES", "");
  ExpectError(Run(hidden), 69, {"CUDA_VISIBLE_DEVICES=\"\" hides all of them: unset it"});
  ExpectError(Run(With(Card("cards=2"), "CUDA_VISIBLE_DEVICES", "5")), 69,
              {"finds no card; CUDA_VISIBLE_DEVICES=\"5\" hides all others"});
  ExpectError(
      Run(With(Card("cards=2"), "CUDA_VISIBLE_DEVICES", "1"), "cuda:1"), 69,
      {"there is only cuda:0; CUDA_VISIBLE_DEVICES=\"1\" hides all others: unset it, or let it name"});
  // Unasked, the CPU runs it; that is what was wished for, and no warning.
  const auto cpu = Run(hidden, "auto");
  ExpectDone(cpu);
  EXPECT_EQ(cpu.err, "");
  EXPECT_THAT(cpu.out, HasSubstr("this run cpu\n"));
  EXPECT_EQ(ParseJson(Preheat({"devices", "--json"}, hidden).out)["devices"].Size(), 1u);
}

TEST_F(CudaErrors, ACardThatTakesNoProcess) {
  ExpectError(Run(Card("retain=46 compute_mode=2")), 69,
              {"cuda:0 takes no process: its compute mode is \"prohibited\"; set another with nvidia-smi"});
  ExpectError(Run(Card("retain=46 compute_mode=3")), 69,
              {"its compute mode is \"exclusive process\", and another process has it"});
  ExpectError(Run(Card("retain=46")), 69, {"cuda:0 takes no process: it is busy or has failed"});
  // Whether an artifact serves it can be said without.
  ExpectDone(Preheat({"verify", File("a.bin"), "--device", "cuda"}, Card("retain=46 compute_mode=2")));
  ExpectError(Preheat({"verify", File("a.bin"), "--device", "cuda:1"}, Card()), 69, {"there is only cuda:0"});
  // Others have taken its memory before a context could be made.
  ExpectError(Run(Card("retain=2")), 69, {"opening cuda:0 failed: ", "free memory on the card"});
}

TEST_F(CudaErrors, TooLittleMemory) {
  ExpectError(Run(Card("memory_bytes=8000000000 free_bytes=1000000")), 69,
              {"cuda:0: ", " MB of memory are wanted and 1.0 MB of 8.00 GB are free; end other processes"});
}

TEST_F(CudaErrors, ACardThatGoes) {
  for (const char* how : {"launches_until_loss=0", "launches_until_loss=7"}) {
    ExpectError(Run(Card(how)), 69, {"starting a kernel failed: ", "999", "the card has failed or has gone"});
  }
  ExpectError(Run(Card("lost_while_waited_for=1")), 69,
              {"running on the card failed: ", "the card has failed or has gone"});
  // Its kernels end, and what they were to report never comes.
  ExpectError(Run(Card()), 69, {"all steps ended and the token did not come"});
}

TEST_F(CudaErrors, CodeThatTheDriverRefuses) {
  ExpectError(Run(Card("load=209")), 69,
              {"loading machine code failed: ", "build the artifact for this card: --targets"});
}

TEST_F(CudaErrors, AnArtifactWithoutCodeForThisCard) {
  const Environment ampere = Card("capability=80");
  const std::string artifact = File("a.bin");
  // Nothing may compile.
  ExpectError(
      PreheatRun(On("a", "", {"--device", "cuda"}), ampere), 4,
      {artifact + ": made for sm_90a, but this card (Fake card) runs sm_80; build with --targets sm_80"});
  ExpectError(Preheat(On("a", "run", {"--forbid-compile"}), ampere), 4, {"build with --targets sm_80"});
  // Nothing can.
  ExpectError(Run(With(ampere, "PREHEAT_NVRTC", "/no/such")), 66,
              {artifact + " is for sm_90a, and Fake card runs sm_80: no NVRTC"});
  const auto verify = Preheat({"verify", artifact}, ampere);
  EXPECT_EQ(verify.exit_code, 4);
  EXPECT_THAT(verify.out, HasSubstr("unusable: target: needs sm_90a, this machine runs sm_80\n"));
  ExpectError(PreheatRun(On("a", "", {"--device", "cuda"}), Card("capability=75")), 4,
              {"Fake card (cuda:0): it runs none of the targets that preheat compiles for"});
}

TEST_F(CudaErrors, ACardThatRunsNoneOfOurTargetsIsPassedOverUnasked) {
  const auto cpu = Preheat(On("a", "run"), Card("capability=75"));
  ExpectDone(cpu);
  EXPECT_THAT(cpu.err,
              HasSubstr("no card is used: Fake card has compute capability 7.5, and compute capability 8.0"));
  EXPECT_THAT(cpu.out, HasSubstr("this run cpu\n"));
  ExpectError(
      Preheat(On("a", "run", {"--device", "cuda"}), Card("capability=75")), 4,
      {"Fake card (cuda:0): it runs none of the targets that preheat compiles for: compute capability 8.0"});
}

TEST_F(CudaErrors, WhatTrialsWarnOfIsSaidOnce) {
  const auto compare =
      Preheat(OnTiny("compare", {"--prompt", "x", "--max-new-tokens", "2"}), Card("capability=75"));
  ExpectDone(compare);
  EXPECT_TRUE(compare.err.starts_with("preheat: warning: no card is used: ")) << compare.err;
  EXPECT_EQ(std::ranges::count(compare.err, '\n'), 1) << compare.err;
}

TEST_F(CudaErrors, WhatIsNotOnCardsYet) {
  ExpectError(Preheat(On("a", "run", {"--device", "cuda", "--execution", "interpreter"}), Card()), 2,
              {"--execution interpreter: the reference runs on the CPU, not on cuda; use --device cpu"});
}

}  // namespace
}  // namespace preheat::testing
