#include "toolchain/host_compiler.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>

#include "base/error.h"
#include "sys/code_image.h"
#include "sys/cpu.h"
#include "sys/env.h"
#include "sys/executable_memory.h"
#include "sys/files.h"
#include "sys/process.h"

namespace preheat::toolchain {
namespace {

using base::Error;
using base::ErrorKind;

// Uses a constant table, a call within the unit, and vector arithmetic: everything that needs relocating.
constexpr std::string_view kKernels = R"(
#include <stdint.h>
typedef float Vec __attribute__((vector_size(32), aligned(4), may_alias));
static const float kTable[4] = {0.5f, 1.5f, 2.5f, 3.5f};
static __attribute__((noinline)) float Pick(int64_t i) { return kTable[i & 3]; }
extern "C" void add(const void* args, int64_t begin, int64_t end, void* scratch) {
  float* out = (float*)scratch;
  for (int64_t i = begin; i < end; ++i) out[i] = Pick(i) + 10.0f;
}
extern "C" void twice(const void* args, int64_t begin, int64_t end, void* scratch) {
  for (int64_t i = begin; i < end; ++i) *((Vec*)scratch + i) *= 2.0f;
}
)";

Unit Sample(std::string target = "x86-64-v3") {
  return {"sample", std::string(kKernels), std::move(target)};
}

using Kernel = void (*)(const void*, int64_t, int64_t, void*);

struct Loaded {
  sys::CodeImageView view;
  sys::ExecutableMemory memory;
  Kernel Find(std::string_view name) const {
    const auto found = std::ranges::find(view.entries, name, &sys::CodeImageView::Entry::name);
    return found == view.entries.end() ? nullptr : memory.FunctionAt<Kernel>(found->offset);
  }
};

Loaded Load(const CompiledUnit& unit) {
  Loaded loaded{sys::ParseCodeImage(unit.image), {}};
  const sys::ImageSegment segment{0, loaded.view.body, loaded.view.body.size(),
                                  sys::Protection::kReadExecute};
  loaded.memory = sys::ExecutableMemory::Map(std::span(&segment, 1));
  return loaded;
}

// Every compiler that this machine has.
class EachCompiler : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!sys::FindInPath(GetParam())) GTEST_SKIP() << "[SKIP] no " << GetParam();
  }
};

TEST_P(EachCompiler, CodeRunsFromItsImage) {
  if (!sys::ThisCpu().features.x86_64_v3()) GTEST_SKIP() << "[SKIP] this CPU is below x86-64-v3";
  const HostCompiler compiler = HostCompiler::At(GetParam());
  const auto units = compiler.Compile({Sample()});
  ASSERT_EQ(units.size(), 1u);
  const Loaded loaded = Load(units[0]);
  EXPECT_EQ(loaded.view.target, "x86-64-v3");
  std::vector<float> out(16, 1.0f);
  loaded.Find("add")(nullptr, 1, 4, out.data());
  EXPECT_EQ(out[1], 11.5f);
  EXPECT_EQ(out[3], 13.5f);
  loaded.Find("twice")(nullptr, 0, 2, out.data());
  EXPECT_EQ(out[1], 23.0f);
  EXPECT_EQ(out[15], 2.0f);
}

TEST_P(EachCompiler, TheSameSourceGivesTheSameBytes) {
  const HostCompiler compiler = HostCompiler::At(GetParam());
  const auto first = compiler.Compile({Sample(), Sample("x86-64-v4")});
  const auto second = compiler.Compile({Sample(), Sample("x86-64-v4")}, {.jobs = 1});
  EXPECT_EQ(first[0].image, second[0].image);
  EXPECT_EQ(first[1].image, second[1].image);
  EXPECT_NE(first[0].image, first[1].image);
}

TEST_P(EachCompiler, EveryTargetCompiles) {
  const HostCompiler compiler = HostCompiler::At(GetParam());
  for (const std::string& target : CpuTargets())
    EXPECT_NO_THROW(compiler.Compile({Sample(target)})) << target;
}

TEST_P(EachCompiler, IdentityNamesFamilyVersionAndTriple) {
  const CompilerIdentity identity = HostCompiler::At(GetParam()).identity();
  EXPECT_TRUE(identity.family == "gcc" || identity.family == "clang");
  EXPECT_NE(identity.version.find("version"), std::string::npos);
  EXPECT_TRUE(identity.triple.starts_with("x86_64")) << identity.triple;
  EXPECT_EQ(identity.Text().find('/'), std::string::npos);
}

struct Refused {
  const char* source;
  const char* named;
};

TEST_P(EachCompiler, WhatNeedsALoaderIsRefusedByName) {
  const HostCompiler compiler = HostCompiler::At(GetParam());
  const sys::UniqueTempDir keep;
  const Refused cases[] = {
      {"extern \"C\" double outside(double); extern \"C\" double f(double x) { return outside(x) + 1; }",
       "outside"},
      {"static int counter; extern \"C\" int f() { return ++counter; }", "counter"},
      {"int filled = 3; extern \"C\" int f() { return ++filled; }", "filled"},
      {"static thread_local int own; extern \"C\" int f() { return ++own; }", "own"},
      {"extern \"C\" int g(); extern \"C\" int f(); int (*const kTable[])() = {f, g}; extern \"C\" int f() { "
       "return "
       "1; } extern \"C\" int g() { return 2; } extern \"C\" int h(int i) { return kTable[i](); }",
       "able"},
      {"static int f() { return 1; } int kUnused = 0;", ""},
  };
  for (const Refused& refused : cases) {
    try {
      compiler.Compile({{"refused", refused.source, "x86-64-v3"}}, {.jobs = 1, .keep_folder = keep.path()});
      ADD_FAILURE() << refused.source;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kToolFailed);
      EXPECT_NE(error.message().find("not freestanding"), std::string::npos) << error.message();
      EXPECT_NE(error.message().find(refused.named), std::string::npos) << error.message();
    }
  }
}

TEST_P(EachCompiler, AFailureShowsTheMessageTheCommandAndTheKeptSource) {
  const HostCompiler compiler = HostCompiler::At(GetParam());
  const sys::UniqueTempDir keep;
  const std::string source = "extern \"C\" void f() { this is wrong; }";
  try {
    compiler.Compile({Sample(), {"broken", source, "x86-64-v3"}}, {.keep_folder = keep.path()});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kToolFailed);
    EXPECT_NE(error.message().find("compiling broken for x86-64-v3 failed: exit code 1"), std::string::npos);
    EXPECT_NE(error.message().find("error:"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("-march=x86-64-v3"), std::string::npos);
    EXPECT_NE(error.message().find("kept in " + keep.File("broken.cc")), std::string::npos)
        << error.message();
  }
  EXPECT_EQ(sys::ReadFile(keep.File("broken.cc")), source);
}

INSTANTIATE_TEST_SUITE_P(Toolchain, EachCompiler, testing::Values("g++", "clang++"),
                         [](const auto& test) { return std::string(test.param) == "g++" ? "gcc" : "clang"; });

TEST(HostCompiler, InvocationsAreCounted) {
  const HostCompiler compiler = HostCompiler::Find();
  const int64_t before = CompiledUnits();
  compiler.Compile({Sample(), Sample("x86-64-v4"), Sample("x86-64-v4+avx512bf16")});
  EXPECT_EQ(CompiledUnits() - before, 3);
}

TEST(HostCompiler, ResultsAreInTheOrderOfTheUnits) {
  const HostCompiler compiler = HostCompiler::Find();
  std::vector<Unit> units;
  for (int i = 0; i < 5; ++i) {
    const std::string name = "f" + std::to_string(i);
    units.push_back({name, "extern \"C\" int " + name + "() { return 1; }", "x86-64-v3"});
  }
  const auto compiled = compiler.Compile(units, {.jobs = 3});
  for (size_t i = 0; i < units.size(); ++i) {
    EXPECT_EQ(compiled[i].name, units[i].name);
    EXPECT_EQ(sys::ParseCodeImage(compiled[i].image).entries[0].name, units[i].name);
  }
}

TEST(HostCompiler, EachUnitIsToldAsItIsDone) {
  const HostCompiler compiler = HostCompiler::Find();
  const std::vector<Unit> units = {Sample(), Sample("x86-64-v4"), Sample("x86-64-v4+avx512bf16")};
  std::map<size_t, std::vector<std::byte>> told;
  const auto compiled =
      compiler.Compile(units, {.jobs = 2, .on_compiled = [&](size_t i, const CompiledUnit& unit) {
                                 EXPECT_TRUE(told.emplace(i, unit.image).second);
                               }});
  ASSERT_EQ(told.size(), units.size());
  for (size_t i = 0; i < units.size(); ++i) EXPECT_EQ(told[i], compiled[i].image);
}

TEST(HostCompiler, UnknownTargetNamesTheKnownOnes) {
  try {
    HostCompiler::Find().Compile({Sample("znver5")});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_NE(error.message().find("x86-64-v4+avx512bf16"), std::string::npos);
  }
}

class Environment : public testing::Test {
 protected:
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    cxx_ ? ::setenv("CXX", cxx_->c_str(), 1) : ::unsetenv("CXX");
  }
  const std::string path_ = sys::GetEnv("PATH").value_or("");
  const std::optional<std::string> cxx_ = sys::GetEnv("CXX");
};

TEST_F(Environment, NoCompilerSaysWhatWasLookedForAndWhatToDo) {
  ::setenv("PATH", "/nonexistent", 1);
  ::setenv("CXX", "no-such-c++", 1);
  try {
    HostCompiler::Find();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_EQ(error.message(),
              "no C++ compiler found: looked for no-such-c++ c++ g++ clang++; install g++ or set CXX");
  }
}

TEST_F(Environment, CxxComesFirstAndMayHaveArguments) {
  if (!sys::FindInPath("clang++")) GTEST_SKIP() << "[SKIP] no clang++";
  ::setenv("CXX", "clang++ -O1", 1);
  EXPECT_EQ(HostCompiler::Find().identity().family, "clang");
}

TEST_F(Environment, AProgramThatIsNoCompilerIsPassedOver) {
  ::setenv("CXX", "/bin/true", 1);
  EXPECT_NO_THROW(HostCompiler::Find());
  EXPECT_THROW(HostCompiler::At("/bin/true"), Error);
}

}  // namespace
}  // namespace preheat::toolchain
