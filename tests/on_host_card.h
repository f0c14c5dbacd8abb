// Tests on the host's card (host_cuda.h): skipped where its kernels cannot run; each finds the card as it is
// at first.
#pragma once

#include <gtest/gtest.h>

#include "host_cuda.h"

namespace preheat::testing {

class OnHostCard : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
    TheHostCard() = {};
  }
  void TearDown() override { TheHostCard() = {}; }
};

}  // namespace preheat::testing
