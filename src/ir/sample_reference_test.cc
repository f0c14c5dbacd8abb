#include "ir/sample_reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace preheat::ir {
namespace {

// Known answers of the authors' Random123 library, kat_vectors: philox4x32 10.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

ph_state Greedy() {
  return ph_state{};
}
ph_state Sampled(float temperature, int32_t top_k, float top_p) {
  ph_state state{};
  state.temperature = temperature;
  state.top_k = top_k;
  state.top_p = top_p;
  state.seed = 0x123456789abcdefull;
  return state;
}
// How often each id is drawn in `draws` steps.
std::vector<int> Histogram(const std::vector<float>& logits, ph_state state, int draws) {
  std::vector<int> counts(logits.size());
  for (state.steps = 0; state.steps < draws; ++state.steps)
    ++counts[static_cast<size_t>(SampleToken(logits, state))];
  return counts;
}

TEST(SampleToken, GreedyTakesTheLowestIdAmongEquals) {
  EXPECT_EQ(SampleToken(std::vector<float>{1, 3, 3, 2}, Greedy()), 1);
}

TEST(SampleToken, BannedAndNanAreNotChosen) {
  ph_state state = Greedy();
  state.banned_count = 2;
  state.banned[0] = 1;
  state.banned[1] = 99;
  EXPECT_EQ(SampleToken(std::vector<float>{1, 3, NAN, 2}, state), 3);
  state.banned_count = 1000;  // clamped; the rest of the list bans 0
  EXPECT_EQ(SampleToken(std::vector<float>{1, 3, NAN, 2}, state), 3);
}

TEST(SampleToken, WithoutCandidatesTheLowestIdThatIsNotBanned) {
  ph_state state = Greedy();
  state.banned_count = 1;
  EXPECT_EQ(SampleToken(std::vector<float>{NAN, NAN}, state), 1);
  EXPECT_EQ(SampleToken(std::vector<float>{5}, state), 0);
}

TEST(SampleToken, InfiniteLogitsAreGreedy) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(SampleToken(std::vector<float>{0, infinity, infinity}, Sampled(1, 0, 1)), 1);
  EXPECT_EQ(SampleToken(std::vector<float>{-infinity, -infinity}, Sampled(1, 0, 1)), 0);
}

TEST(SampleToken, DrawsFollowTheDistribution) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  const int draws = 20000;
  const std::vector<int> counts = Histogram(logits, Sampled(1, 0, 1), draws);
  // Four standard deviations of a binomial count.
  for (size_t id = 0; id < 3; ++id) {
    const double p = std::exp(logits[id]) / 8;
    EXPECT_NEAR(counts[id], draws * p, 4 * std::sqrt(draws * p * (1 - p))) << id;
  }
}

TEST(SampleToken, TemperatureSharpens) {
  const std::vector<float> logits = {0, 1};
  EXPECT_GT(Histogram(logits, Sampled(0.25f, 0, 1), 1000)[1], Histogram(logits, Sampled(2, 0, 1), 1000)[1]);
}

TEST(SampleToken, TopKKeepsEqualsOfTheLast) {
  const std::vector<int> counts = Histogram({0, 1, 1, 2}, Sampled(1, 2, 1), 2000);
  EXPECT_EQ(counts[0], 0);
  EXPECT_GT(counts[1], 0);
  EXPECT_GT(counts[2], 0);
}

TEST(SampleToken, TopPKeepsUntilTheSumIsReached) {
  // Probabilities 0.125, 0.25, 0.625: 0.7 needs two, 0.6 one, 0 still keeps the largest.
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  EXPECT_EQ(Histogram(logits, Sampled(1, 0, 0.7f), 2000)[0], 0);
  EXPECT_GT(Histogram(logits, Sampled(1, 0, 0.7f), 2000)[1], 0);
  EXPECT_EQ(Histogram(logits, Sampled(1, 0, 0.6f), 2000)[2], 2000);
  EXPECT_EQ(Histogram(logits, Sampled(1, 0, 0), 2000)[2], 2000);
}

TEST(SampleToken, SeedAndStepDecide) {
  const std::vector<float> logits(100, 0.0f);
  ph_state a = Sampled(1, 0, 1), b = a;
  EXPECT_EQ(SampleToken(logits, a), SampleToken(logits, b));
  int changed_by_step = 0, changed_by_seed = 0;
  for (int i = 1; i < 20; ++i) {
    b = a;
    b.steps = i;
    changed_by_step += SampleToken(logits, a) != SampleToken(logits, b);
    b = a;
    b.seed += static_cast<uint64_t>(i) << 32;
    changed_by_seed += SampleToken(logits, a) != SampleToken(logits, b);
  }
  EXPECT_GT(changed_by_step, 15);
  EXPECT_GT(changed_by_seed, 15);
}

TEST(SampleToken, ManyEqualLogitsDoNotOverflow) {
  const std::vector<float> logits(130000, 7.0f);  // weights sum to 2^47, times 24 bits
  int high = 0;
  ph_state state = Sampled(1, 0, 1);
  for (state.steps = 0; state.steps < 40; ++state.steps) high += SampleToken(logits, state) >= 65000;
  EXPECT_GT(high, 8);
  EXPECT_LT(high, 32);
}

}  // namespace
}  // namespace preheat::ir
