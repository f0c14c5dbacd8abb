#include "preload/provide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "store/store.h"

namespace preheat::preload {
namespace {

using ::testing::HasSubstr;

const ProgramFamily kFamily = {.config_hash = "abc",
                               .weight_dtype = "float32",
                               .dtype = "float32",
                               .mode = "default",
                               .target = "x86-64-v3"};

program::Program Named(const StepSpec& step) {
  program::Program program;
  program.name = step.Name();
  program.target = kFamily.target;
  program.kind = step.kind;
  return program;
}

TEST(Provide, CompilesOnlyWhatIsMissing) {
  store::Store store = store::Store::InMemory();
  store.Put(store::EntryKind::kProgram, ProgramKey(kFamily, StepSpec::Decode()),
            program::ToJson(Named(StepSpec::Decode())));
  std::vector<StepSpec> asked;
  const CompileFunction compile = [&](const ProgramFamily&, std::span<const StepSpec> steps) {
    asked.assign(steps.begin(), steps.end());
    return std::vector<program::Program>{Named(steps[0])};
  };
  CompileCounters counters;
  const StepSpec steps[] = {StepSpec::Bucket(128), StepSpec::Decode()};
  const auto programs = ProvidePrograms(store, kFamily, steps, compile, counters);
  EXPECT_EQ(asked, std::vector<StepSpec>{StepSpec::Bucket(128)});
  EXPECT_EQ(programs[0].name, "prefill_128");
  EXPECT_EQ(programs[1].name, "decode");
  EXPECT_EQ(counters.aot_cache_hit, 1);
}

TEST(Provide, TheBestTargetWithEveryProgramIsTaken) {
  store::Store store = store::Store::InMemory();
  const StepSpec steps[] = {StepSpec::Bucket(128), StepSpec::Decode()};
  const std::string targets[] = {"x86-64-v4", "x86-64-v3"};
  ProgramFamily better = kFamily;
  better.target = "x86-64-v4";
  store.Put(store::EntryKind::kProgram, ProgramKey(better, steps[1]), program::ToJson(Named(steps[1])));
  CompileCounters counters;
  EXPECT_FALSE(FindForBestTarget(store, kFamily, targets, steps, counters));
  for (const StepSpec& step : steps) {
    store.Put(store::EntryKind::kProgram, ProgramKey(kFamily, step), program::ToJson(Named(step)));
  }
  const auto found = FindForBestTarget(store, kFamily, targets, steps, counters);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->family.target, "x86-64-v3");
  EXPECT_EQ(found->programs.size(), 2u);
}

TEST(Provide, WhatTheDriverHasToCompileCountsAsNoMachineCodeFound) {
  store::Store store = store::Store::InMemory();
  const std::string first(1, 'a'), second(1, 'b');
  const StepSpec steps[] = {StepSpec::Decode()};
  const auto count = [&](const std::string& target) {
    program::Program program = Named(steps[0]);
    program.target = target;
    program::Segment& segment = program.segments.emplace_back();
    for (const std::string& code : {first, second})
      segment.launches.push_back(
          {.region = "r", .code = store.PutCode(std::as_bytes(std::span(code))), .entry = "e"});
    ProgramFamily family = kFamily;
    family.target = target;
    store.Put(store::EntryKind::kProgram, ProgramKey(family, steps[0]), program::ToJson(program));
    CompileCounters counters;
    ProvidePrograms(store, family, steps, {}, counters);
    return counters;
  };
  EXPECT_EQ(count("sm_90a"),
            (CompileCounters{.async_compile_hit = 2, .fxgraph_cache_hit = 1, .aot_cache_hit = 1}));
  EXPECT_EQ(count("compute_90"),
            (CompileCounters{.fxgraph_cache_hit = 1, .aot_cache_hit = 1, .driver_compile = 2}));
}

TEST(Provide, NothingIsCountedWhereNoTargetHasEveryProgram) {
  store::Store store = store::Store::InMemory();
  const StepSpec steps[] = {StepSpec::Bucket(128), StepSpec::Decode()};
  store.Put(store::EntryKind::kProgram, ProgramKey(kFamily, steps[1]), program::ToJson(Named(steps[1])));
  CompileCounters counters;
  const std::string targets[] = {"x86-64-v4", "x86-64-v3"};
  EXPECT_FALSE(FindForBestTarget(store, kFamily, targets, steps, counters));
  EXPECT_EQ(counters, CompileCounters{});
  const auto found = FindForBestTarget(store, kFamily, targets, std::span(steps).last(1), counters);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->family.target, "x86-64-v3");
}

TEST(Provide, ForbiddenCompilingNamesTheStepAndTheReason) {
  store::Store store = store::Store::InMemory();
  CompileCounters counters;
  const StepSpec steps[] = {StepSpec::Decode()};
  try {
    ProvidePrograms(store, kFamily, steps, {}, counters);
    FAIL() << "nothing was thrown";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kWouldCompile);
    EXPECT_THAT(error.message(), HasSubstr("decode: there is no program at all"));
  }
}

}  // namespace
}  // namespace preheat::preload
