#include "generate/generator.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::generate {
namespace {

// Counts up: the token after t is t + 1, and a banned token is skipped.
class CountingRunner final : public session::StepRunner {
 public:
  explicit CountingRunner(int64_t capacity) : capacity_(capacity) {}
  void Prefill(std::span<const int32_t> ids, int64_t bucket) override {
    length_ += static_cast<int64_t>(ids.size());
    bucket_ = bucket;
    Choose(ids.back() + 1);
  }
  void Decode() override {
    ++length_;
    Choose(state_.token + 1);
  }
  void Begin(const ph_state& state) override {
    length_ = 0;
    state_ = state;
  }
  int32_t token() override { return state_.token; }
  void SetToken(int32_t token) override { state_.token = token; }
  std::span<const float> logits() override { return {}; }
  int64_t length() const override { return length_; }
  int64_t capacity() const override { return capacity_; }
  int64_t bucket() const { return bucket_; }

 private:
  void Choose(int32_t token) {
    for (int i = 0; i < state_.banned_count; ++i) token += token == state_.banned[i];
    state_.token = token;
    ++state_.steps;
  }
  int64_t capacity_;
  int64_t length_ = 0;
  int64_t bucket_ = -1;
  ph_state state_{};
};

const std::vector<int32_t> kPrompt = {10, 11};

TEST(Generate, StopsAtTheEndTokenAndKeepsIt) {
  CountingRunner runner(100);
  const Generation result = Generate(runner, kPrompt, {.max_new_tokens = 10, .end_tokens = {14}});
  EXPECT_EQ(result.ids, (std::vector<int32_t>{12, 13, 14}));
  EXPECT_EQ(result.stop, StopReason::kEndToken);
  EXPECT_EQ(runner.length(), 4);  // the end token is not fed back
}

TEST(Generate, FixedNumberOfTokensExcludesEndTokens) {
  CountingRunner runner(100);
  const GenerateOptions options = {.max_new_tokens = 4, .fixed_new_tokens = true, .end_tokens = {13}};
  EXPECT_EQ(Generate(runner, kPrompt, options).ids, (std::vector<int32_t>{12, 14, 15, 16}));
}

TEST(Generate, IgnoringTheEndKeepsItAndGoesOn) {
  CountingRunner runner(100);
  const GenerateOptions options = {.max_new_tokens = 3, .ignore_end = true, .end_tokens = {13}};
  EXPECT_EQ(Generate(runner, kPrompt, options).ids, (std::vector<int32_t>{12, 13, 14}));
}

TEST(Generate, CancelKeepsWhatWasGenerated) {
  CountingRunner runner(100);
  int asked = 0;
  const Generation result =
      Generate(runner, kPrompt, {.max_new_tokens = 10, .cancelled = [&] { return ++asked == 2; }});
  EXPECT_EQ(result.ids.size(), 2u);
  EXPECT_EQ(result.stop, StopReason::kCancelled);
}

TEST(Generate, EachTokenIsShownOnce) {
  CountingRunner runner(100);
  std::vector<int32_t> shown;
  const GenerateOptions options = {
      .max_new_tokens = 3, .bucket = 8, .on_token = [&](int32_t id) { shown.push_back(id); }};
  EXPECT_EQ(Generate(runner, kPrompt, options).ids, shown);
  EXPECT_EQ(runner.bucket(), 8);
}

TEST(Generate, StartsFromAnEmptyCacheEachTime) {
  CountingRunner runner(5);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Generate(runner, kPrompt, {.max_new_tokens = 4}).ids.size(), 4u);
}

TEST(Generate, WhatDoesNotFitIsRefusedBeforeAnythingRuns) {
  CountingRunner runner(5);
  EXPECT_THROW(Generate(runner, kPrompt, {.max_new_tokens = 5}), base::Error);
  EXPECT_EQ(runner.length(), 0);
  EXPECT_THROW(Generate(runner, {}, {}), base::Error);
}

TEST(Generate, MoreEndTokensThanCanBeExcludedIsRefused) {
  CountingRunner runner(100);
  EXPECT_THROW(
      Generate(runner, kPrompt, {.fixed_new_tokens = true, .end_tokens = std::vector<int32_t>(17, 1)}),
      base::Error);
}

}  // namespace
}  // namespace preheat::generate
