// PTX on a card that is this machine: which cards run it, what is told, and which of its kernels may overlap.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error_for_test.h"
#include "codegen/codegen.h"
#include "compiled_model.h"
#include "device/cuda/cuda_device.h"
#include "generate/generator.h"
#include "golden.h"
#include "host_cuda.h"
#include "on_host_card.h"
#include "sys/code_image.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

class PtxOnCards : public OnHostCard {
 protected:
  void SetUp() override {
    if (RealCard() != nullptr) GTEST_SKIP() << "[SKIP] a real card has the capability that it has";
    OnHostCard::SetUp();
  }

  store::Store store_ = store::Store::InMemory();
};

// On a card of sm_90 or newer, code for older ones does not wait for what it reads: the card must.
TEST_F(PtxOnCards, PtxRunsOnLaterCardsAndOnlyKernelsThatWaitOverlap) {
  TheHostCard().multiprocessors = 1;
  const Checkpoint checkpoint = Checkpoint::Open(ReadGoldenCase("gqa3_24_8_bf16").model_folder);
  const auto run = [&](const std::string& target, int capability) {
    const int64_t overlapping = UseOfHostCard().overlapping_launches;
    ::testing::internal::CaptureStderr();
    CompiledModel model(checkpoint, store_,
                        {.target = target,
                         .steps = {StepSpec::AnyLength(), StepSpec::Decode()},
                         .capacity = 32,
                         .capability = capability});
    const std::string told = ::testing::internal::GetCapturedStderr();
    generate::Generate(model.session(), std::vector<int32_t>{0, 5, 9, 3},
                       {.max_new_tokens = 3, .ignore_end = true});
    return std::pair(told, UseOfHostCard().overlapping_launches - overlapping);
  };
  const auto [ampere, ampere_overlapping] = run("compute_80", 90);
  EXPECT_EQ(ampere_overlapping, 0);
  EXPECT_TRUE(ampere.starts_with(
      "preheat: warning: Host card (compute capability 9.0) runs without machine code for sm_90a: its driver "
      "compiled "))
      << ampere;
  EXPECT_NE(ampere.find(" kernels from PTX of compute_80, which took "), std::string::npos) << ampere;
  EXPECT_EQ(std::ranges::count(ampere, '\n'), 1) << ampere;

  const auto [future, future_overlapping] = run("compute_90", 130);
  EXPECT_GT(future_overlapping, 0);
  EXPECT_NE(future.find("(compute capability 13.0) runs without machine code for its architecture: "),
            std::string::npos)
      << future;

  EXPECT_EQ(run("sm_80", 80), (std::pair<std::string, int64_t>("", 0)));
}

TEST_F(PtxOnCards, PtxWithoutItsEndIsDamage) {
  sys::CodeImage image;
  image.target = "compute_90";
  image.entries = {{"kernel", 0}};
  for (const char c : std::string_view(".version 9.0")) image.body.push_back(static_cast<std::byte>(c));
  const std::vector<std::byte> bytes = sys::SerializeCodeImage(image);
  const std::span<const std::byte> images[] = {bytes};
  device::CudaDevice device(HostDriver(), 0);
  EXPECT_NE(base::Complaint([&] { device.LoadCode(images); }, base::ErrorKind::kCorrupt)
                .find("its PTX has no end; build the artifact again"),
            std::string::npos);
}

TEST_F(PtxOnCards, EachTargetThatIsCompiledForHasItsCards) {
  for (const std::string& name : codegen::TargetNames()) {
    const codegen::Target target = codegen::ParseTarget(name);
    if (!target.IsCuda()) continue;
    const std::vector<std::string> runs =
        target.ptx ? device::CudaPtxTargets(target.sm) : device::CudaTargets(target.sm);
    ASSERT_FALSE(runs.empty()) << name;
    EXPECT_EQ(runs.front(), name);
  }
}

}  // namespace
}  // namespace preheat::testing
