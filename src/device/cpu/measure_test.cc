#include "device/cpu/measure.h"

#include <gtest/gtest.h>

#include "sys/cpu.h"

namespace preheat::device {
namespace {

// Rates themselves are the machine's affair; that they are there, and finite, is ours.
TEST(Measure, GivesEveryRate) {
  if (!sys::ThisCpu().features.x86_64_v3()) GTEST_SKIP() << "[SKIP] this CPU is below x86-64-v3";
  ThreadPool pool({.threads = 2});
  const CpuRates rates = MeasureCpu(pool, {.buffer_bytes = size_t{8} << 20, .repeats = 1});
  EXPECT_GT(rates.read_bytes_per_s_1thread, 1e6);
  EXPECT_GE(rates.read_bytes_per_s, rates.read_bytes_per_s_1thread);
  EXPECT_GT(rates.bf16_flops_per_s, 1e6);
  EXPECT_LT(rates.bf16_flops_per_s, 1e18);
}

}  // namespace
}  // namespace preheat::device
