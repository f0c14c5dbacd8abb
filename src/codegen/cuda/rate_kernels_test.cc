// The kernels that measure a card do what is counted: every byte is read, every product added up.
#include "codegen/cuda/rate_kernels.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/nvrtc_for_test.h"
#include "tensor/bf16.h"

namespace preheat::codegen::cuda {
namespace {

constexpr int kBlocks = 3;

class RateKernels : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  }
};

HostRun RunBlocks(const CudaUnitForTest& unit, const char* entry, const ph_gpu_args& args,
                  const ph_block_shape& blocks) {
  return unit.Run(entry, {.grid = kBlocks,
                          .threads = blocks.threads,
                          .shared_bytes = static_cast<int>(blocks.shared_bytes),
                          .params = BytesOf(args),
                          .seed = 1});
}

TEST_F(RateKernels, EveryWordIsReadOnce) {
  const ReadKernel kernel = MakeReadKernel(ParseTarget("sm_80"));
  const CudaUnitForTest unit(kernel.source, {.arch = 800});
  ASSERT_EQ(unit.log(), "");
  // Some blocks have a second share, and some not.
  const int64_t pieces = (kBlocks + 1) * kernel.pieces_per_block;
  std::vector<uint32_t> data(static_cast<size_t>(pieces * 4));
  std::mt19937 random(1);
  for (uint32_t& word : data) word = static_cast<uint32_t>(random());
  const auto fold_of = [](const std::vector<uint32_t>& words) {
    return std::accumulate(words.begin(), words.end(), 0u, std::bit_xor<>());
  };
  std::vector<uint32_t> folds(static_cast<size_t>(kBlocks * kernel.blocks.threads));
  const auto run = [&] {
    const ph_gpu_args args = {.operands = {data.data(), folds.data()}, .rows = pieces};
    const HostRun result = RunBlocks(unit, "read_all", args, kernel.blocks);
    EXPECT_EQ(result.error, "");
    EXPECT_EQ(result.stream_bytes, pieces * 16);
    EXPECT_EQ(fold_of(folds), fold_of(data));
  };
  run();
  for (const size_t changed : {size_t{0}, data.size() / 2 + 3, data.size() - 1}) {
    const uint32_t before = fold_of(folds);
    data[changed] ^= 0x1234;
    run();
    EXPECT_EQ(fold_of(folds), before ^ 0x1234) << changed;
  }
}

// Small whole numbers: sums are exact in any order.
std::vector<uint16_t> SmallNumbers(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> numbers(static_cast<size_t>(count));
  for (uint16_t& bits : numbers) {
    bits = tensor::FloatToBf16(static_cast<float>(static_cast<int>(random() % 15) - 7));
  }
  return numbers;
}

TEST_F(RateKernels, EachRoundAddsTheProductOfTheMatrices) {
  constexpr int64_t kRounds = 3;
  for (const char* target : {"sm_80", "sm_90a"}) {
    const MultiplyKernel kernel = MakeMultiplyKernel(ParseTarget(target));
    const CudaUnitForTest unit(kernel.source, {.arch = ParseTarget(target).sm * 10});
    ASSERT_EQ(unit.log(), "") << target;
    std::vector<uint16_t> x = SmallNumbers(kernel.rows * kernel.k, 1);
    std::vector<uint16_t> w = SmallNumbers(kernel.columns * kernel.k, 2);
    std::vector<float> sums(static_cast<size_t>(kBlocks * kernel.rows * kernel.columns), -1);
    const ph_gpu_args args = {.operands = {x.data(), w.data(), sums.data()}, .rows = kRounds};
    EXPECT_EQ(RunBlocks(unit, "multiply_all", args, kernel.blocks).error, "") << target;

    int64_t wrong = 0;
    for (int64_t row = 0; row < kernel.rows; ++row) {
      for (int64_t column = 0; column < kernel.columns; ++column) {
        float sum = 0;
        for (int64_t k = 0; k < kernel.k; ++k) {
          sum += tensor::Bf16ToFloat(x[static_cast<size_t>(row * kernel.k + k)]) *
                 tensor::Bf16ToFloat(w[static_cast<size_t>(column * kernel.k + k)]);
        }
        for (int64_t block = 0; block < kBlocks; ++block) {
          const int64_t at = (block * kernel.rows + row) * kernel.columns + column;
          wrong += sums[static_cast<size_t>(at)] != kRounds * sum;
        }
      }
    }
    EXPECT_EQ(wrong, 0) << target;
    EXPECT_EQ(kernel.FlopsPerRound(), 2.0 * static_cast<double>(kernel.rows * kernel.columns * kernel.k));
  }
}

TEST(Nvrtc, TheKernelsThatMeasureACardCompileWithoutSpills) {
  std::string reason;
  const auto nvrtc = NvrtcForTest::Open(reason);
  if (!nvrtc) GTEST_SKIP() << "[SKIP] no NVRTC here: " << reason;
  for (const std::string target : {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"}) {
    for (const std::string& source :
         {MakeReadKernel(ParseTarget(target)).source, MakeMultiplyKernel(ParseTarget(target)).source}) {
      const CudaReport report = nvrtc->Compile(source, target);
      EXPECT_EQ(report.messages, "") << target;  // also where products would wait for each other
      ASSERT_EQ(report.kernels.size(), 1u) << target;
      EXPECT_EQ(report.kernels[0].spill_bytes, 0) << target << ": " << report.kernels[0].entry;
      EXPECT_EQ(report.kernels[0].stack_bytes, 0) << target << ": " << report.kernels[0].entry;
    }
  }
}

}  // namespace
}  // namespace preheat::codegen::cuda
