#include "preload/program_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/store.h"

namespace preheat::preload {
namespace {

using ::testing::HasSubstr;

ProgramFamily Family() {
  return {.config_hash = "abc",
          .weight_dtype = "bfloat16",
          .dtype = "bfloat16",
          .mode = "default",
          .target = "x86-64-v3",
          .profile = "some cpu"};
}

program::Program ProgramWithCode(const std::string& hash) {
  program::Program program;
  program.name = "decode";
  program.target = "x86-64-v3";
  program.layers = 1;
  program.segments = {{.repeat = 1, .launches = {{.region = "head", .code = hash, .entry = "head"}}}};
  return program;
}

TEST(ProgramKey, EveryFactorChangesIt) {
  const std::string base = ProgramKey(Family(), StepSpec::Decode()).name();
  EXPECT_NE(base, ProgramKey(Family(), StepSpec::AnyLength()).name());
  EXPECT_NE(ProgramKey(Family(), StepSpec::AnyLength()).name(),
            ProgramKey(Family(), StepSpec::AllLogits()).name());
  for (std::string ProgramFamily::*part :
       {&ProgramFamily::config_hash, &ProgramFamily::weight_dtype, &ProgramFamily::dtype,
        &ProgramFamily::mode, &ProgramFamily::target, &ProgramFamily::profile}) {
    ProgramFamily other = Family();
    other.*part = "other";
    EXPECT_NE(base, ProgramKey(other, StepSpec::Decode()).name());
  }
}

TEST(FindProgram, TakesTheDefaultProfileWhereTheOwnIsMissing) {
  store::Store store = store::Store::InMemory();
  const std::string hash = store.PutCode({});
  ProgramFamily untuned = Family();
  untuned.profile = std::string(kDefaultProfile);
  store.Put(store::EntryKind::kProgram, ProgramKey(untuned, StepSpec::Decode()),
            program::ToJson(ProgramWithCode(hash)));
  EXPECT_TRUE(FindProgram(store, Family(), StepSpec::Decode()));
  EXPECT_FALSE(FindProgram(store, Family(), StepSpec::AnyLength()));
}

TEST(FindProgram, WithoutItsCodeIsAMiss) {
  store::Store store = store::Store::InMemory();
  store.Put(store::EntryKind::kProgram, ProgramKey(Family(), StepSpec::Decode()),
            program::ToJson(ProgramWithCode(std::string(64, 'a'))));
  EXPECT_FALSE(FindProgram(store, Family(), StepSpec::Decode()));
  EXPECT_THAT(ExplainMiss(store, Family(), StepSpec::Decode()), HasSubstr("machine code"));
}

TEST(ExplainMiss, NamesThePartThatDiffers) {
  store::Store store = store::Store::InMemory();
  EXPECT_THAT(ExplainMiss(store, Family(), StepSpec::Decode()), HasSubstr("no program at all"));
  ProgramFamily other = Family();
  other.mode = "max-autotune";
  store.Put(store::EntryKind::kProgram, ProgramKey(other, StepSpec::Decode()),
            program::ToJson(ProgramWithCode("x")));
  EXPECT_THAT(ExplainMiss(store, Family(), StepSpec::Decode()),
              HasSubstr("mode: default here, max-autotune there"));
}

}  // namespace
}  // namespace preheat::preload
