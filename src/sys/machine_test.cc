// dynamic_library, executable_memory, cpu, clock, signals, env, terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "sys/cgroup.h"
#include "sys/clock.h"
#include "sys/cpu.h"
#include "sys/dynamic_library.h"
#include "sys/env.h"
#include "sys/executable_memory.h"
#include "sys/files.h"
#include "sys/process.h"
#include "sys/signals.h"
#include "sys/terminal.h"

namespace preheat::sys {
namespace {

using base::Error;
using base::ErrorKind;

TEST(DynamicLibrary, OpensTheFirstThatIsThere) {
  const auto library = DynamicLibrary::Open({"libpreheat-none.so.1", "libm.so.6"});
  ASSERT_TRUE(library.has_value());
  EXPECT_EQ(library->name(), "libm.so.6");
  auto* cosine = library->Symbol<double (*)(double)>("cos");
  ASSERT_NE(cosine, nullptr);
  EXPECT_EQ(cosine(0.0), 1.0);
  EXPECT_EQ(library->Symbol<void*>("preheat_no_such_symbol"), nullptr);
  EXPECT_THAT(library->FilePath("cos"), testing::HasSubstr("libm"));
}

TEST(DynamicLibrary, NoneIsAMissWithAReason) {
  std::string reason;
  EXPECT_FALSE(DynamicLibrary::Open({"libpreheat-none.so.1"}, &reason).has_value());
  EXPECT_THAT(reason, testing::HasSubstr("libpreheat-none.so.1"));
}

// mov eax, 42; ret
constexpr std::array<unsigned char, 6> kReturn42 = {0xb8, 42, 0, 0, 0, 0xc3};

TEST(ExecutableMemory, RunsCodeAndKeepsDataApart) {
  const std::array<unsigned char, 3> data = {1, 2, 3};
  const std::array<ImageSegment, 2> segments = {
      ImageSegment{0, std::as_bytes(std::span(kReturn42)), kReturn42.size(), Protection::kReadExecute},
      ImageSegment{4096, std::as_bytes(std::span(data)), 10, Protection::kReadWrite}};
  const ExecutableMemory memory = ExecutableMemory::Map(segments);
  EXPECT_EQ(memory.FunctionAt<int (*)()>(0)(), 42);
  EXPECT_EQ(memory.base()[4098], std::byte{3});
  EXPECT_EQ(memory.base()[4100], std::byte{0});
}

TEST(ExecutableMemory, NoPageIsWritableAndExecutable) {
  const ImageSegment code{0, std::as_bytes(std::span(kReturn42)), kReturn42.size(), Protection::kReadExecute};
  const ExecutableMemory memory = ExecutableMemory::Map(std::span(&code, 1));
  const std::string maps = ReadFile("/proc/self/maps");
  EXPECT_EQ(maps.find(" rwx"), std::string::npos);
  const std::string line_begin = fmt::format("{:x}-", reinterpret_cast<uintptr_t>(memory.base()));
  const size_t line = maps.find(line_begin);
  ASSERT_NE(line, std::string::npos);
  EXPECT_THAT(maps.substr(line, 100), testing::HasSubstr(" r-xp "));
}

ErrorKind MapFailure(std::vector<ImageSegment> segments) {
  try {
    ExecutableMemory::Map(segments);
  } catch (const Error& error) {
    return error.kind();
  }
  ADD_FAILURE() << "mapped";
  return ErrorKind::kIo;
}

TEST(ExecutableMemory, ImpossibleImagesAreCorrupt) {
  const std::span<const std::byte> code = std::as_bytes(std::span(kReturn42));
  EXPECT_EQ(MapFailure({{0, code, 3, Protection::kRead}}), ErrorKind::kCorrupt);
  EXPECT_EQ(MapFailure({{0, code, 8, Protection::kRead}, {4, code, 8, Protection::kRead}}),
            ErrorKind::kCorrupt);
  EXPECT_EQ(MapFailure({{0, code, 8, Protection::kReadExecute}, {64, code, 8, Protection::kReadWrite}}),
            ErrorKind::kCorrupt);
  EXPECT_EQ(MapFailure({{SIZE_MAX - 4, code, 8, Protection::kRead}}), ErrorKind::kCorrupt);
  EXPECT_EQ(MapFailure({{0, code, SIZE_MAX, Protection::kRead}}), ErrorKind::kCorrupt);
}

TEST(ExecutableMemory, NothingMapsToNothing) {
  EXPECT_EQ(ExecutableMemory::Map({}).size(), 0u);
}

// The kernel's own list, which knows CPUID and XGETBV, too.
TEST(Cpu, AgreesWithTheKernelsFlags) {
  const std::string text = ReadFile("/proc/cpuinfo");
  const size_t at = text.find("\nflags");
  if (at == std::string::npos) GTEST_SKIP() << "[SKIP] no flags in /proc/cpuinfo";
  const std::string flags =
      " " + text.substr(text.find(':', at) + 1, text.find('\n', at + 1) - text.find(':', at) - 1) + " ";
  const auto has = [&](const char* flag) {
    return flags.find(fmt::format(" {} ", flag)) != std::string::npos;
  };
  const CpuFeatures& f = ThisCpu().features;
  EXPECT_EQ(f.avx2, has("avx2"));
  EXPECT_EQ(f.fma, has("fma"));
  EXPECT_EQ(f.f16c, has("f16c"));
  EXPECT_EQ(f.lzcnt, has("abm"));
  EXPECT_EQ(f.bmi2, has("bmi2"));
  EXPECT_EQ(f.avx512f, has("avx512f"));
  EXPECT_EQ(f.avx512vl, has("avx512vl"));
  EXPECT_EQ(f.avx512bf16, has("avx512_bf16"));
  EXPECT_EQ(f.avx512vnni, has("avx512_vnni"));
  EXPECT_EQ(f.amx_bf16, has("amx_bf16"));
  EXPECT_THAT(text, testing::HasSubstr(ThisCpu().name));
  EXPECT_THAT(text, testing::HasSubstr(ThisCpu().vendor));
  EXPECT_THAT(text, testing::HasSubstr(fmt::format("cpu family\t: {}\n", ThisCpu().family)));
  EXPECT_THAT(text, testing::HasSubstr(fmt::format("model\t\t: {}\n", ThisCpu().model)));
}

TEST(Cpu, CompilersBuiltinAgreesOnTheLevels) {
  __builtin_cpu_init();
  EXPECT_EQ(ThisCpu().features.x86_64_v3(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                                                __builtin_cpu_supports("bmi2"));
}

TEST(Cpu, ALevelNeedsAllOfItsFeatures) {
  CpuFeatures features = {};
  EXPECT_TRUE(SupportedCpuTargets(features).empty());
  features.sse42 = features.ssse3 = features.popcnt = features.cx16 = features.avx = features.avx2 = true;
  features.fma = features.f16c = features.bmi1 = features.bmi2 = features.lzcnt = features.movbe = true;
  EXPECT_THAT(SupportedCpuTargets(features), testing::ElementsAre("x86-64-v3"));
  features.avx512f = features.avx512bw = features.avx512cd = features.avx512dq = true;
  features.avx512bf16 = true;
  EXPECT_THAT(SupportedCpuTargets(features), testing::ElementsAre("x86-64-v3"));
  features.avx512vl = true;
  EXPECT_THAT(SupportedCpuTargets(features),
              testing::ElementsAre("x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3"));
}

TEST(Threads, AffinityBoundsThem) {
  EXPECT_GE(AvailableThreads(), 1);
  EXPECT_LE(AvailableThreads(), static_cast<int>(AllowedCpus().size()));
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(AllowedCpus().front()), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_EQ(AvailableThreads(), 1);
  }).join();
}

class FakeCgroups : public testing::Test {
 protected:
  void Put(const std::string& path, std::string_view text) {
    MakeDirs(ParentPath(dir_.File(path)));
    WriteFileAtomic(dir_.File(path), text);
  }
  CgroupLimits Read() { return ReadCgroupLimits(dir_.path()); }
  UniqueTempDir dir_;
};

TEST_F(FakeCgroups, VersionTwoTakesTheLowestLevel) {
  Put("proc/self/cgroup", "0::/a/b\n");
  Put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  Put("sys/fs/cgroup/a/cpu.max", "250000 100000\n");
  Put("sys/fs/cgroup/a/b/memory.max", "1048576\n");
  EXPECT_EQ(Read().cpus, 2.5);
  EXPECT_EQ(Read().memory_bytes, 1048576);
  EXPECT_EQ(ThreadsFor(8, Read()), 3);
  EXPECT_EQ(ThreadsFor(2, Read()), 2);
}

TEST_F(FakeCgroups, AContainersRootCountsWhateverItsPath) {
  Put("proc/self/cgroup", "0::/../../host/path\n");
  Put("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(ThreadsFor(8, Read()), 1);
}

TEST_F(FakeCgroups, VersionOneReadsQuotaAndPeriod) {
  Put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n");
  Put("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "400000\n");
  Put("sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  Put("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(Read().cpus, 4.0);
  EXPECT_EQ(Read().memory_bytes, 4096);
}

TEST_F(FakeCgroups, NoLimitAndNonsenseAreNoLimit) {
  EXPECT_FALSE(Read().cpus.has_value());
  Put("proc/self/cgroup", "nonsense\n0::/a\n5:cpu:/\n");
  Put("sys/fs/cgroup/a/cpu.max", "0 x\n");
  Put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(Read().cpus.has_value());
  EXPECT_EQ(ThreadsFor(0, Read()), 1);
}

TEST(Memory, IsThere) {
  EXPECT_GT(SystemMemory().total_bytes, int64_t{64} << 20);
  EXPECT_LE(SystemMemory().available_bytes, SystemMemory().total_bytes);
}

TEST(Clock, ProcessStartGrowsWithTime) {
  const double first = ProcessStartSeconds();
  EXPECT_GE(first, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GE(ProcessStartSeconds() - first, 0.02);
}

// Started by us at a known moment, a child of this test prints its own view.
TEST(Clock, AChildsStartIsWithinATickOfTheTruth) {
  if (GetEnv("PREHEAT_TEST_PRINT_START")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    fmt::print("start={}\n", MonotonicSeconds() - ProcessStartSeconds());
    return;
  }
  SpawnOptions options;
  options.env = {{"PREHEAT_TEST_PRINT_START", "1"}};
  const double before = MonotonicSeconds();
  const SpawnResult result =
      Spawn({SelfPath(), "--gtest_filter=Clock.AChildsStartIsWithinATickOfTheTruth"}, options);
  const size_t at = result.out.find("start=");
  ASSERT_NE(at, std::string::npos) << result.out;
  const double start = std::stod(result.out.substr(at + 6));
  EXPECT_GT(start, before - 0.011);
  EXPECT_LT(start, before + 0.5);  // the machine may be busy, but the 50 ms of sleep must be counted
}

TEST(Clock, TimestampHasPythonsForm) {
  EXPECT_THAT(
      UtcTimestamp(),
      testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}\\+00:00"));
  EXPECT_EQ(LocalDate().size(), 10u);
}

TEST(InterruptFlag, TheFirstSignalSetsIt) {
  InterruptFlag flag;
  EXPECT_FALSE(flag.requested());
  ::raise(SIGINT);
  EXPECT_TRUE(flag.requested());
  EXPECT_TRUE(flag.flag().load());
}

TEST(InterruptFlag, StartsUnsetEachTime) {
  {
    InterruptFlag flag;
    flag.Request();
    EXPECT_TRUE(flag.requested());
  }
  InterruptFlag flag;
  EXPECT_FALSE(flag.requested());
}

TEST(InterruptFlagDeathTest, TheSecondSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        InterruptFlag flag;
        ::raise(SIGINT);
        ::raise(SIGINT);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(InterruptFlag, PutsTheOldActionBack) {
  { InterruptFlag flag; }
  struct sigaction action;
  ::sigaction(SIGINT, nullptr, &action);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(Env, AnEmptyVariableIsNone) {
  ::setenv("PREHEAT_TEST_VAR", "", 1);
  EXPECT_FALSE(GetEnv("PREHEAT_TEST_VAR").has_value());
  ::setenv("PREHEAT_TEST_VAR", "x", 1);
  EXPECT_EQ(GetEnv("PREHEAT_TEST_VAR"), "x");
  ::unsetenv("PREHEAT_TEST_VAR");
}

TEST(Env, ATildeIsTheHomeFolder) {
  EXPECT_EQ(ExpandUser("~/x"), JoinPath(HomeDir(), "x"));
  EXPECT_EQ(ExpandUser("~"), HomeDir());
  EXPECT_EQ(ExpandUser("/a/~"), "/a/~");
}

TEST(TempDir, IsMadeWhereMissingAndMayHoldBlanks) {
  UniqueTempDir outer;
  const std::optional<std::string> old = GetEnv("TMPDIR");
  ::setenv("TMPDIR", outer.File("not yet/there").c_str(), 1);
  std::string path;
  {
    UniqueTempDir inner("trial");
    path = inner.path();
    EXPECT_THAT(path, testing::StartsWith(outer.File("not yet/there/trial-")));
    WriteFileAtomic(inner.File("f"), std::string_view("x"));
  }
  EXPECT_FALSE(Exists(path));
  old ? ::setenv("TMPDIR", old->c_str(), 1) : ::unsetenv("TMPDIR");
}

TEST(TempDir, KeepLeavesIt) {
  std::string path;
  {
    UniqueTempDir dir;
    path = dir.path();
    dir.Keep();
  }
  EXPECT_TRUE(Exists(path));
  RemoveTree(path);
}

TEST(Terminal, APipeIsNone) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  EXPECT_FALSE(IsTerminal(fds[1]));
  EXPECT_FALSE(ColourWanted(fds[1]));
  ::close(fds[0]);
  ::close(fds[1]);
}

}  // namespace
}  // namespace preheat::sys
