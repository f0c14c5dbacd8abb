#include "device/cuda/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace preheat::device {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(CudaTargets, MachineCodeRunsOnCardsOfItsMajorNumberPtxOnAllLaterOnes) {
  EXPECT_THAT(CudaTargets(86), ElementsAre("sm_86", "sm_80"));
  EXPECT_THAT(CudaPtxTargets(86), ElementsAre("compute_80"));
  EXPECT_THAT(CudaTargets(90), ElementsAre("sm_90a"));
  EXPECT_THAT(CudaPtxTargets(90), ElementsAre("compute_90", "compute_80"));
  EXPECT_THAT(CudaPtxTargets(103), ElementsAre("compute_100", "compute_90", "compute_80"));
  EXPECT_THAT(CudaTargets(121), ElementsAre("sm_120"));
  EXPECT_THAT(CudaPtxTargets(121), ElementsAre("compute_120", "compute_100", "compute_90", "compute_80"));
}

TEST(CudaTargets, ACardNewerThanAllOfThemRunsPtxAloneAnOldOneNothing) {
  EXPECT_THAT(CudaTargets(130), IsEmpty());
  EXPECT_THAT(CudaPtxTargets(130), ElementsAre("compute_120", "compute_100", "compute_90", "compute_80"));
  EXPECT_THAT(CudaTargets(75), IsEmpty());
  EXPECT_THAT(CudaPtxTargets(75), IsEmpty());
}

TEST(CudaTargets, ACapabilityIsInTheirNames) {
  EXPECT_EQ(CapabilityOf("sm_90a"), 90);
  EXPECT_EQ(CapabilityOf("compute_120"), 120);
  EXPECT_EQ(CapabilityOf("x86-64-v4"), 0);
}

}  // namespace
}  // namespace preheat::device
