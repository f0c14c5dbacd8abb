// A kernel as generated ones are: each warp streams rows through a ring of slots in shared memory by bulk
// copies, refills a slot when it has read it, and meets an activation that an earlier kernel made. Right, it
// gives the sums of plain arithmetic in every order; broken in any of the ways that one breaks it, it is
// caught.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/host_machine_for_test.h"
#include "codegen/cuda/host_ring_for_test.h"
#include "codegen/unit_for_test.h"

namespace preheat::codegen::cuda {
namespace {

struct RingParams {
  const float* weights;
  const float* x;
  float* out;
  int rows;
  int columns;
};

class HostRing : public testing::Test {
 protected:
  // Small integers: every sum is exact.
  HostRing() {
    std::mt19937 random(3);
    const auto draw = [&] { return static_cast<float>(static_cast<int>(random() % 15) - 7); };
    for (size_t i = 0; i < kRows * kColumns; ++i) weights_[i] = draw();
    for (size_t i = 0; i < kColumns; ++i) x_[i] = draw();
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t i = 0; i < kColumns; ++i) expected_[row] += weights_[row * kColumns + i] * 2 * x_[i];
    }
  }

  HostRun Run(const CudaUnitForTest& unit, const std::string& variant, int grid, uint64_t seed) {
    out_.assign(kRows, std::nanf(""));
    const RingParams params = {weights_.data(), x_.data(), out_.data(), kRows, kColumns};
    return unit.Run("ring_" + variant,
                    {.grid = grid,
                     .threads = 128,
                     .shared_bytes = 1024 + 16 * 512 + 4 * kColumns,
                     .params = BytesOf(params),
                     .seed = seed,
                     .ranges = {{weights_.data(), 4 * kRows * kColumns, HostAccess::kImmutable},
                                {x_.data(), 4 * kColumns, HostAccess::kDependent}}});
  }

  static constexpr int kRows = 75, kColumns = 640;
  AlignedArray<float> weights_{kRows * kColumns}, x_{kColumns};
  std::vector<float> expected_ = std::vector<float>(kRows), out_;
};

TEST_F(HostRing, RightIsRightInEveryOrderAndBrokenIsCaught) {
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers";
  const CudaUnitForTest unit(RingUnit());
  ASSERT_EQ(unit.log(), "");
  for (const RingVariant& variant : kRingVariants) {
    std::string caught;
    for (const int grid : {1, 6, 19}) {
      for (uint64_t seed = 0; seed < 6; ++seed) {
        const HostRun run = Run(unit, variant.name, grid, seed);
        if (!run.error.empty()) {
          caught += run.error + "\n";
        } else if (out_ != expected_) {
          caught += "wrong sums\n";
        } else if (std::string_view(variant.name) == "kRight") {
          EXPECT_EQ(run.copied_bytes, 4 * kRows * kColumns);
          EXPECT_EQ(run.dependent_bytes, 4 * kColumns * grid);
          EXPECT_EQ(run.waits, 128 * grid);
        }
      }
    }
    if (std::string_view(variant.name) == "kRight") {
      EXPECT_EQ(caught, "");
    } else {
      EXPECT_NE(caught, "") << variant.name;
      const char* error = variant.error == nullptr ? "" : variant.error;
      EXPECT_NE(caught.find(error), std::string::npos) << variant.name << ": " << caught;
    }
  }
}

}  // namespace
}  // namespace preheat::codegen::cuda
