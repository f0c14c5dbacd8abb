// Each name of the machine, used rightly: what it gives on the host, in every order that the seeds choose.
#include "codegen/cuda/host_machine_for_test.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <sstream>

#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/host_kernels_for_test.h"
#include "codegen/cuda/machine.h"
#include "codegen/cuda/machine_hopper.h"
#include "codegen/unit_for_test.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::codegen::cuda {
namespace {

constexpr uint64_t kSeeds[] = {0, 1, 2, 3, 4};

#define SKIP_WITHOUT_FIBERS() \
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers"

TEST(HostMachine, BothMachinesHaveTheSameNames) {
  std::string host;
  for (const char* name : {"host_names_for_test.h", "host_hopper_names_for_test.h"}) {
    std::ifstream file(std::string(PREHEAT_SOURCE_DIR "/src/codegen/cuda/") + name);
    host += std::string{std::istreambuf_iterator<char>(file), {}};
  }
  const auto names = [](const std::string& text) {
    std::set<std::string> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      // What a line defines is the last word before one of these.
      std::string_view end;
      if (line.starts_with("#define ")) end = "( ";
      if (line.starts_with("INLINE ") || line.starts_with("template <int N> INLINE ")) end = "(";
      if (line.starts_with("typedef ")) end = ";";
      if (line.starts_with("struct ")) end = "{";
      if (end.empty()) continue;
      const size_t begin = line.starts_with("#define ") ? 8 : 0;
      const size_t last = line.find_last_not_of(' ', line.find_first_of(end, begin) - 1);
      std::string name = line.substr(0, last + 1);
      name = name.substr(name.find_last_of(" *") + 1);
      if (!name.starts_with("Host") && !name.starts_with("HOST") && name != "__device__") found.insert(name);
    }
    return found;
  };
  const std::set<std::string> on_card =
      names(std::string(CudaMachine()) + HopperMachine({.matrices = 64, .fragments = 64, .transposed = 64}));
  const std::set<std::string> on_host = names(host);
  EXPECT_GT(on_card.size(), 60u);
  for (const std::string& name : on_card) EXPECT_TRUE(on_host.contains(name)) << name;
  for (const std::string& name : on_host) EXPECT_TRUE(on_card.contains(name)) << name;
}

struct Pointer {
  void* to;
};

TEST(HostMachine, ThreadsKnowTheirPlaceAndMeet) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kThreadKernels));
  for (const uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    for (const int resident : {1, 3, 7}) {
      std::vector<int> to(5 * 7 * 96, -1);
      const HostRun run = unit.Run("indices", {.grid = 7,
                                               .threads = 96,
                                               .params = BytesOf(Pointer{to.data()}),
                                               .seed = seed,
                                               .resident_blocks = resident});
      ASSERT_EQ(run.error, "");
      for (int i = 0; i < 7 * 96; ++i) {
        const std::vector<int> got(to.begin() + 5 * i, to.begin() + 5 * i + 5);
        ASSERT_EQ(got, (std::vector<int>{i % 96, i / 96, 7, i % 32, i % 96 / 32})) << i;
      }
    }

    std::vector<uint32_t> exchanged(6 * 64);
    const HostRun run = unit.Run(
        "exchanges",
        {.threads = 64, .shared_bytes = 256, .params = BytesOf(Pointer{exchanged.data()}), .seed = seed});
    ASSERT_EQ(run.error, "");
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t* got = &exchanged[6 * i];
      const uint32_t first = i / 32 * 32;
      EXPECT_EQ(got[0], i ^ 5);
      EXPECT_EQ(got[1], first + 7);
      uint32_t ballot = 0;
      for (uint32_t lane = 0; lane < 32; ++lane) ballot |= ((first + lane) % 3 == 0 ? 1u : 0u) << lane;
      EXPECT_EQ(got[2], ballot);
      EXPECT_EQ(std::bit_cast<float>(got[3]), static_cast<float>(32 * first + 496));
      EXPECT_EQ(std::bit_cast<float>(got[4]), static_cast<float>(first + 31));
      EXPECT_EQ(std::bit_cast<float>(got[5]), static_cast<float>(63 - i));
    }

    std::vector<int> sums(128);
    EXPECT_EQ(
        unit.Run("pairs",
                 {.threads = 128, .shared_bytes = 512, .params = BytesOf(Pointer{sums.data()}), .seed = seed})
            .error,
        "");
    for (int i = 0; i < 128; ++i)
      EXPECT_EQ(sums[static_cast<size_t>(i)], i < 64 ? 3 * (i ^ 32) + 3 : 20 * (i ^ 32) + 190);
  }
}

TEST(HostMachine, WarpsThatOnlyArriveGoOn) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kThreadKernels));
  for (const uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    std::vector<int> sums(64);
    const HostRun run = unit.Run(
        "arrivals",
        {.threads = 64, .shared_bytes = 6 * 256, .params = BytesOf(Pointer{sums.data()}), .seed = seed});
    EXPECT_EQ(run.error, "");
    for (int i = 0; i < 64; ++i) EXPECT_EQ(sums[static_cast<size_t>(i)], 3 * (i ^ 32) + (i < 32 ? 6 : 9));
  }
}

TEST(HostMachine, WordsAreWaitedFor) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kThreadKernels));
  for (const uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    std::vector<uint32_t> words(32), to(32);
    const struct { uint32_t *words, *to; } params = {words.data(), to.data()};
    const HostRun run = unit.Run(
        "words", {.grid = 2, .threads = 32, .params = BytesOf(params), .seed = seed, .resident_blocks = 2});
    EXPECT_EQ(run.error, "");
    for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(to[i], 7 + i);
  }
}

TEST(HostMachine, BlocksMeetWhereAllAreResident) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kThreadKernels));
  constexpr int kGrid = 19, kRounds = 5;
  struct {
    uint32_t* counter;
    uint32_t* to;
    int rounds;
  } params{};
  for (const uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    std::vector<uint32_t> counter(3), to(kGrid, 99);
    params = {counter.data(), to.data(), kRounds};
    HostLaunch launch = {
        .grid = kGrid, .threads = 64, .params = BytesOf(params), .seed = seed, .resident_blocks = kGrid};
    EXPECT_EQ(unit.Run("meeting", launch).error, "");
    EXPECT_EQ(counter, (std::vector<uint32_t>{kGrid * kRounds, kGrid * kRounds, 7}));

    counter = {0, 0, 0};
    launch.resident_blocks = 3;
    const std::string error = unit.Run("meeting", launch).error;
    EXPECT_NE(error.find("deadlock"), std::string::npos) << error;
    EXPECT_NE(error.find("lanes 0 wait in LookAgain4"), std::string::npos) << error;
    EXPECT_NE(error.find("lanes 1-31 wait in SyncBlock"), std::string::npos) << error;
    EXPECT_NE(error.find("16 blocks have not started: 3 run at a time"), std::string::npos) << error;
  }
}

TEST(HostMachine, WhatDependsOnOrderDiffersBetweenSeeds) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kThreadKernels));
  std::set<std::vector<int>> results;
  for (const uint64_t seed : kSeeds) {
    for (int again = 0; again < 2; ++again) {  // a seed gives the same order each time
      std::vector<int> to(64);
      EXPECT_EQ(
          unit.Run("unordered",
                   {.threads = 64, .shared_bytes = 256, .params = BytesOf(Pointer{to.data()}), .seed = seed})
              .error,
          "");
      EXPECT_EQ(results.insert(to).second, again == 0);
    }
  }
}

uint32_t Canonical(float x) {
  return std::isnan(x) ? 0x7fffffffu : std::bit_cast<uint32_t>(x);
}

TEST(HostMachine, NumbersAreRoundedAsIeeeSays) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kNumberKernels));
  std::mt19937 random(11);
  std::vector<float> x = {0.0f,
                          -0.0f,
                          1.0f,
                          -2.5f,
                          65504.0f,
                          65519.9f,
                          65520.0f,
                          1e-8f,
                          5.9604645e-8f,
                          3.4e38f,
                          -3.39e38f,
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::denorm_min()};
  for (const uint32_t bits : {0xffc12345u, 0x7f800001u, 0x3f808000u, 0x3f818000u, 0x3f808001u, 0x3f80ffffu,
                              0x00008000u, 0x3c7e7c00u, 0x00000001u, 0x3f803ff0u, 0xbf801000u, 0x3f803000u}) {
    x.push_back(std::bit_cast<float>(bits));
  }
  while (x.size() < 4000) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  while (x.size() < 8000)
    x.push_back(
        std::ldexp(static_cast<float>(random()) * 0x1p-31f - 1, static_cast<int>(random() % 40) - 25));
  std::vector<uint32_t> to(11 * x.size());
  struct {
    const float* x;
    uint32_t* to;
    int count;
  } params = {x.data(), to.data(), static_cast<int>(x.size())};
  ASSERT_EQ(unit.Run("numbers", {.params = BytesOf(params)}).error, "");
  const auto bf16 = [](float v) { return std::isnan(v) ? 0x7fffu : uint32_t{tensor::FloatToBf16(v)}; };
  for (size_t i = 0; i < x.size(); ++i) {
    const float a = x[i], b = x[(i * 7 + 3) % x.size()];
    SCOPED_TRACE(testing::Message() << std::hexfloat << a << " " << b);
    const uint32_t* got = &to[11 * i];
    ASSERT_EQ(got[0], bf16(a));
    ASSERT_EQ(got[1], std::isnan(a) ? 0x7fffu : tensor::FloatToF16(a));
    ASSERT_EQ(got[2], bf16(a) | bf16(b) << 16);
    ASSERT_EQ(got[3], Canonical(tensor::F16ToFloat(static_cast<uint16_t>(std::bit_cast<uint32_t>(a)))));
    ASSERT_EQ(got[4], Canonical(std::fma(a, b, a)));
    ASSERT_EQ(got[5], Canonical(a * b));
    ASSERT_EQ(got[6], Canonical(a + b));
    ASSERT_EQ(got[7], Canonical(std::sqrt(a)));
    ASSERT_EQ(got[8], Canonical(a / b));
    ASSERT_EQ(got[9], Canonical(std::exp2(a)));
    ASSERT_EQ(got[10], static_cast<uint32_t>(std::popcount(std::bit_cast<uint32_t>(a))));
  }
}

TEST(HostMachine, MatricesAreLaidOutAsPtxSays) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kMatrixKernels), {.arch = 800});
  std::mt19937 random(5);
  // Small integers: every sum is exact.
  const auto draw = [&] { return static_cast<float>(static_cast<int>(random() % 17) - 8); };
  struct {
    const uint16_t* a;
    const uint16_t* b;
    float* d;
  } params{};
  for (const uint64_t seed : kSeeds) {
    std::vector<float> a(256), b(256), d(256), expected(256), expected8(128);
    AlignedArray<uint16_t> a16(256), b16(256), transposed(256);
    for (size_t i = 0; i < 256; ++i) {
      a[i] = draw();
      b[i] = draw();
      d[i] = draw();
      a16[i] = tensor::FloatToBf16(a[i]);
      b16[i] = tensor::FloatToBf16(b[i]);
      transposed[i % 16 * 16 + i / 16] = b16[i];
    }
    for (size_t row = 0; row < 16; ++row) {
      for (size_t column = 0; column < 16; ++column) {
        float sum = 0;
        for (size_t k = 0; k < 16; ++k) sum += a[row * 16 + k] * b[column * 16 + k];
        expected[row * 16 + column] = sum;
        if (column < 8) expected8[row * 8 + column] = d[row * 8 + column] + sum;
      }
    }
    const auto run = [&](const char* entry, AlignedArray<uint16_t>& right) {
      params = {a16.data(), right.data(), d.data()};
      EXPECT_EQ(unit.Run(entry, {.shared_bytes = 1024, .params = BytesOf(params), .seed = seed}).error, "");
    };
    run("fragments", b16);
    EXPECT_EQ(std::vector<float>(d.begin(), d.begin() + 128), expected8);
    run("rows", b16);
    EXPECT_EQ(d, expected);
    run("columns", transposed);
    EXPECT_EQ(d, expected);
  }
}

TEST(HostMachine, CopiesArriveWhenTheyAreWaitedFor) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText(kCopyKernels));
  constexpr size_t kCount = 9;
  AlignedArray<float> from(kCount * 128), to(kCount * 128);
  for (size_t i = 0; i < kCount * 128; ++i) from[i] = static_cast<float>(i);
  struct {
    const float* from;
    float* to;
    int count;
  } params = {from.data(), to.data(), kCount};
  for (const uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    const HostRun groups =
        unit.Run("groups", {.shared_bytes = 3 * 512, .params = BytesOf(params), .seed = seed});
    ASSERT_EQ(groups.error, "");
    EXPECT_EQ(groups.copied_bytes, static_cast<int64_t>(kCount * 512));
    for (size_t i = 0; i < kCount * 128; ++i) ASSERT_EQ(to[i], i / 128 % 4 == 3 ? 0 : from[i]) << i;
    const HostRun phases = unit.Run(
        "phases", {.threads = 64, .shared_bytes = 16 + 512, .params = BytesOf(params), .seed = seed});
    ASSERT_EQ(phases.error, "");
    EXPECT_EQ(phases.copied_bytes, static_cast<int64_t>(kCount * 512));
    for (size_t i = 0; i < kCount * 128; ++i) ASSERT_EQ(to[i], from[i]) << i;
    std::fill_n(to.data(), kCount * 128, 0.0f);
    const HostRun pipeline = unit.Run(
        "pipeline", {.threads = 128, .shared_bytes = 32 + 1024, .params = BytesOf(params), .seed = seed});
    ASSERT_EQ(pipeline.error, "");
    for (size_t i = 0; i < kCount * 128; ++i) ASSERT_EQ(to[i], from[i]) << i;
  }
}

TEST(HostMachine, AnotherCompilerGivesTheSame) {
  SKIP_WITHOUT_FIBERS();
  if (HostMachineIsInstrumented()) GTEST_SKIP() << "[SKIP] AddressSanitizer is of one compiler";
  for (const char* compiler : {"g++", "clang++"}) {
    if (std::system((std::string(compiler) + " --version >/dev/null 2>&1").c_str()) != 0) continue;
    const CudaUnitForTest unit(CudaText(kCopyKernels), {.compiler = compiler});
    ASSERT_EQ(unit.log(), "");
    AlignedArray<float> from(128), to(128);
    for (size_t i = 0; i < 128; ++i) from[i] = static_cast<float>(i);
    struct {
      const float* from;
      float* to;
      int count;
    } params = {from.data(), to.data(), 1};
    const HostRun run =
        unit.Run("pipeline", {.threads = 128, .shared_bytes = 32 + 1024, .params = BytesOf(params)});
    EXPECT_EQ(run.error, "");
    EXPECT_EQ(to[127], 127);
  }
}

TEST(HostMachine, WhatDoesNotCompileOrIsNotThereIsAnError) {
  SKIP_WITHOUT_FIBERS();
  const CudaUnitForTest unit(CudaText("struct P { CopyBarrier* b; };\n"), {.arch = 800});
  EXPECT_NE(unit.log().find("unit.cu"), std::string::npos) << unit.log();
  EXPECT_NE(unit.Run("f", {}).error.find("was not compiled"), std::string::npos);

  const CudaUnitForTest threads(CudaText(kThreadKernels));
  EXPECT_EQ(threads.log(), "");
  EXPECT_EQ(threads.Run("f", {}).error, "the unit has no kernel f");
  const Pointer params{};
  EXPECT_EQ(threads.Run("indices", {.threads = 40, .params = BytesOf(params)}).error,
            "launch of indices: 40 threads a block: whole warps, up to 1024");
  EXPECT_EQ(threads.Run("indices", {.threads = 128, .params = BytesOf(params)}).error,
            "launch of indices: 128 threads a block, the kernel's bound is 96");
  EXPECT_EQ(threads.Run("indices", {.threads = 96}).error,
            "launch of indices: 0 bytes of parameters, the kernel takes 8");
  EXPECT_EQ(threads.Run("indices", {.threads = 96, .shared_bytes = 300000, .params = BytesOf(params)}).error,
            "launch of indices: 300000 bytes of shared memory, a block has at most 232448");

  const CudaUnitForTest big(
      CudaText("KERNEL(big, 256, 2, i64) {}\nKERNEL(endless, 64, 1, i64) { for (;;) SyncBlock(); }\n"));
  const int64_t zero = 0;
  EXPECT_EQ(big.Run("big", {.threads = 256, .shared_bytes = 115712, .params = BytesOf(zero)}).error, "");
  EXPECT_EQ(big.Run("big", {.threads = 256, .shared_bytes = 115728, .params = BytesOf(zero)}).error,
            "launch of big: 256 threads and 115728 bytes of shared memory: no SM has room for 2 blocks");
  const HostRun endless =
      big.Run("endless", {.threads = 64, .params = BytesOf(zero), .max_switches = 100000});
  EXPECT_NE(endless.error.find("goes on after 100000 switches"), std::string::npos) << endless.error;
}

}  // namespace
}  // namespace preheat::codegen::cuda
