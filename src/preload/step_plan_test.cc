#include "preload/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace preheat::preload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const StepSpec kDecode = StepSpec::Decode();

TEST(StepPlan, APromptIsPaddedToTheSmallestBucketThatHoldsIt) {
  for (const auto& [tokens, bucket] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 128}, {128, 128}, {129, 256}}) {
    const StepPlan plan = PlanSteps({.prompt_tokens = tokens, .buckets = {128, 256}, .bucket_pad = true});
    EXPECT_EQ(plan.bucket, bucket);
    EXPECT_THAT(plan.steps, ElementsAre(StepSpec::Bucket(bucket), kDecode));
    EXPECT_THAT(plan.notes, IsEmpty());
  }
}

TEST(StepPlan, APromptThatNoBucketHoldsRunsUnpaddedAndSaysSo) {
  const StepPlan plan = PlanSteps({.prompt_tokens = 257, .buckets = {128, 256}, .bucket_pad = true});
  EXPECT_EQ(plan.bucket, 0);
  EXPECT_THAT(plan.steps, ElementsAre(StepSpec::AnyLength(), kDecode));
  EXPECT_THAT(plan.notes,
              ElementsAre(HasSubstr("no bucket holds the prompt's 257 tokens (buckets: 128,256)")));
}

TEST(StepPlan, WithoutKnownBucketsPaddingIsImpossibleAndTold) {
  const StepPlan plan = PlanSteps({.prompt_tokens = 5, .bucket_pad = true});
  EXPECT_THAT(plan.steps, ElementsAre(StepSpec::AnyLength(), kDecode));
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("--prefill-buckets")));
}

TEST(StepPlan, UnpaddedAListedLengthHasItsOwnProgram) {
  EXPECT_THAT(PlanSteps({.prompt_tokens = 128, .buckets = {128}}).steps,
              ElementsAre(StepSpec::Bucket(128), kDecode));
  EXPECT_THAT(PlanSteps({.prompt_tokens = 127, .buckets = {128}}).steps,
              ElementsAre(StepSpec::AnyLength(), kDecode));
}

TEST(StepPlan, DynamicTrueNeverTakesABucket) {
  const StepPlan plan =
      PlanSteps({.prompt_tokens = 128, .buckets = {128}, .bucket_pad = true, .dynamic = "true"});
  EXPECT_EQ(plan.bucket, 0);
  EXPECT_THAT(plan.steps, ElementsAre(StepSpec::AnyLength(), kDecode));
}

TEST(StepPlan, DynamicFalseAsksForAProgramOfJustThisLengthAndSaysSo) {
  const StepPlan plan = PlanSteps({.prompt_tokens = 7, .buckets = {128}, .dynamic = "false"});
  EXPECT_THAT(plan.steps, ElementsAre(StepSpec::Bucket(7), kDecode));
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("no program is listed for 7 tokens")));
}

TEST(StepPlan, LogitsOfAllRowsComeFromTheirOwnProgram) {
  const StepPlan plan = PlanSteps(
      {.prompt_tokens = 128, .buckets = {128}, .bucket_pad = true, .logit_rows = program::LogitRows::kAll});
  EXPECT_EQ(plan.bucket, 0);
  EXPECT_THAT(plan.steps, ElementsAre(StepSpec::AllLogits(), kDecode));
}

}  // namespace
}  // namespace preheat::preload
