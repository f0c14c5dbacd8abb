#include "device/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "sys/cpu.h"

namespace preheat::device {
namespace {

// operands[0]: int32 per tile, counts how often it ran.
void CountTiles(const ph_args* args, int64_t begin, int64_t end, void*) {
  auto* counts = static_cast<int32_t*>(args->operands[0]);
  for (int64_t i = begin; i < end; ++i) ++counts[i];
}

// out[i] = sum of in: plain loads and stores, so that a missing barrier is a wrong result and a race.
void SumAll(const ph_args* args, int64_t begin, int64_t end, void*) {
  const auto* in = static_cast<const int64_t*>(args->operands[0]);
  auto* out = static_cast<int64_t*>(args->operands[1]);
  const int64_t sum = std::accumulate(in, in + args->rows, int64_t{0}) % 1000003;
  for (int64_t i = begin; i < end; ++i) out[i] = sum + i;
}

ph_args MakeArgs(void* const* operands, int64_t rows = 1) {
  ph_args args = {};
  args.operands = operands;
  args.rows = rows;
  return args;
}

Launch MakeLaunch(ph_kernel kernel, const ph_args& args, int64_t tiles) {
  Launch launch;
  launch.kernel = {.host = kernel};
  launch.args = &args;
  launch.tiles = tiles;
  return launch;
}

class ThreadPoolTest : public testing::TestWithParam<int> {
 protected:
  ThreadPool pool_{{.threads = GetParam(), .spin_us = 5}};
};

TEST_P(ThreadPoolTest, EveryTileRunsExactlyOnce) {
  for (const int64_t tiles : {0, 1, 2, 7, 64, 1000}) {
    for (const int64_t chunk : {0, 1, 3, 5000}) {
      std::vector<int32_t> counts(static_cast<size_t>(tiles) + 1, 0);
      void* operands[] = {counts.data()};
      const ph_args args = MakeArgs(operands);
      Launch launch = MakeLaunch(CountTiles, args, tiles);
      launch.chunk = chunk;
      pool_.Run(std::span(&launch, 1));
      for (int64_t i = 0; i < tiles; ++i) ASSERT_EQ(counts[static_cast<size_t>(i)], 1) << tiles << " " << i;
      EXPECT_EQ(counts.back(), 0);
    }
  }
}

TEST_P(ThreadPoolTest, ALaunchSeesAllStoresOfTheOneBefore) {
  constexpr int64_t kTiles = 24;
  std::vector<int64_t> a(kTiles, 1);
  std::vector<int64_t> b(kTiles, 0);
  void* forth[] = {a.data(), b.data()};
  void* back[] = {b.data(), a.data()};
  const ph_args args[] = {MakeArgs(forth, kTiles), MakeArgs(back, kTiles)};
  // More than one piece of the pool's slots.
  std::vector<Launch> launches;
  for (int i = 0; i < 2500; ++i) launches.push_back(MakeLaunch(SumAll, args[i % 2], kTiles));
  pool_.Run(launches);
  std::vector<int64_t> want(kTiles, 1);
  for (int i = 0; i < 2500; ++i) {
    const int64_t sum = std::accumulate(want.begin(), want.end(), int64_t{0}) % 1000003;
    for (int64_t j = 0; j < kTiles; ++j) want[static_cast<size_t>(j)] = sum + j;
  }
  EXPECT_EQ(a, want);
}

TEST_P(ThreadPoolTest, ManyShortRunsWhoseListsAreGoneAfterwards) {
  constexpr int64_t kTiles = 3;
  int64_t total = 0;
  for (int run = 0; run < 3000; ++run) {
    std::vector<int32_t> counts(kTiles, 0);
    void* operands[] = {counts.data()};
    const ph_args args = MakeArgs(operands);
    const std::vector<Launch> launches(static_cast<size_t>(run % 5), MakeLaunch(CountTiles, args, kTiles));
    pool_.Run(launches);
    total += std::accumulate(counts.begin(), counts.end(), int64_t{0}) - kTiles * (run % 5);
    if (run % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the workers fall asleep
  }
  EXPECT_EQ(total, 0);
}

// Stage fills scratch, the tile kernel reads it.
void StageScratch(const ph_args* args, int64_t begin, int64_t end, void* scratch) {
  auto* words = static_cast<int64_t*>(scratch);
  words[0] = static_cast<const int64_t*>(args->operands[0])[0];
  words[1] = end - begin;
  static_cast<std::atomic<int64_t>*>(args->operands[2])->fetch_add(1);
}
void UseScratch(const ph_args* args, int64_t begin, int64_t end, void* scratch) {
  auto* out = static_cast<int64_t*>(args->operands[1]);
  const auto* words = static_cast<const int64_t*>(scratch);
  for (int64_t i = begin; i < end; ++i) out[i] = words[0] + words[1];
}

TEST_P(ThreadPoolTest, StageRunsOnEachThreadBeforeItsFirstTileOfALaunch) {
  pool_.ReserveScratch(100);
  constexpr int64_t kTiles = 40;
  std::atomic<int64_t> stages[2] = {};
  int64_t values[2] = {5, 7};
  std::vector<int64_t> out(2 * kTiles);
  void* first[] = {&values[0], out.data(), &stages[0]};
  void* second[] = {&values[1], out.data() + kTiles, &stages[1]};
  const ph_args args[] = {MakeArgs(first), MakeArgs(second)};
  Launch launches[] = {MakeLaunch(UseScratch, args[0], kTiles), MakeLaunch(UseScratch, args[1], kTiles)};
  for (Launch& launch : launches) {
    launch.stage = {.host = StageScratch};
    launch.chunk = 1;
  }
  for (int run = 0; run < 200; ++run) {
    stages[0] = stages[1] = 0;
    pool_.Run(launches);
    for (const auto& count : stages) {
      EXPECT_GE(count, 1);
      EXPECT_LE(count, GetParam());
    }
    for (int64_t i = 0; i < kTiles; ++i) {
      ASSERT_EQ(out[static_cast<size_t>(i)], 5 + kTiles);
      ASSERT_EQ(out[static_cast<size_t>(kTiles + i)], 7 + kTiles);
    }
  }
}

void NoteScratch(const ph_args* args, int64_t begin, int64_t, void* scratch) {
  static_cast<void**>(args->operands[0])[begin] = scratch;
}

TEST_P(ThreadPoolTest, ScratchIsAlignedAndKeepsItsSizeWhenLessIsAskedFor) {
  pool_.ReserveScratch(1000);
  pool_.ReserveScratch(10);
  void* seen[8] = {};
  void* operands[] = {seen};
  const ph_args args = MakeArgs(operands);
  Launch launch = MakeLaunch(NoteScratch, args, 8);
  launch.chunk = 1;
  pool_.Run(std::span(&launch, 1));
  for (void* scratch : seen) {
    EXPECT_NE(scratch, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, TakesAsManyThreadsAsThisProcessMayUse) {
  EXPECT_EQ(ThreadPool().threads(), sys::AvailableThreads());
}

void WaitForRelease(const ph_args* args, int64_t, int64_t, void*) {
  // The first to come holds its tile; the other must do all the rest meanwhile.
  auto* state = static_cast<std::atomic<int>*>(args->operands[0]);
  if (state[0].fetch_add(1) > 0) return;
  while (state[0] < 10) std::this_thread::yield();
}

TEST(ThreadPool, AThreadThatIsHeldUpDelaysOnlyItsOwnChunk) {
  ThreadPool pool({.threads = 2, .spin_us = 5});
  std::atomic<int> state[1] = {};
  void* operands[] = {state};
  const ph_args args = MakeArgs(operands);
  Launch launch = MakeLaunch(WaitForRelease, args, 10);
  launch.chunk = 1;
  pool.Run(std::span(&launch, 1));  // hangs if tiles were dealt out beforehand
  EXPECT_EQ(state[0], 10);
}

TEST(ThreadPool, WithoutSpinningItStillWorks) {
  ThreadPool pool({.threads = 2, .spin_us = 0});
  std::vector<int32_t> counts(4, 0);
  void* operands[] = {counts.data()};
  const ph_args args = MakeArgs(operands);
  const std::vector<Launch> launches(300, MakeLaunch(CountTiles, args, 4));
  pool.Run(launches);
  EXPECT_EQ(counts, std::vector<int32_t>(4, 300));
}

}  // namespace
}  // namespace preheat::device
