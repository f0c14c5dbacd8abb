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
  const CompileFunction compile = [&](std::span<const StepSpec> steps) {
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
