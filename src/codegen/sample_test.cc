#include "codegen/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "codegen/unit_for_test.h"

namespace preheat::codegen {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// ---- The definition in sample.h, word by word ----

uint32_t Philox(uint64_t seed, uint32_t counter) {
  uint32_t c[4] = {counter, 0, 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
    const uint64_t a = uint64_t{0xd2511f53u} * c[0], b = uint64_t{0xcd9e8d57u} * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c[1] = static_cast<uint32_t>(b);
    c[2] = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c[3] = static_cast<uint32_t>(a);
  }
  return c[0];
}

uint64_t Weight(float x, float largest, float temperature) {
  const float c = 1.44269504f / std::max(temperature, 1e-6f);
  // volatile: each operation rounded by itself.
  const volatile float product = (x - largest) * c;
  const float t = std::max(static_cast<float>(product), -40.0f);
  const volatile float shifted = t + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float f = t - n;
  constexpr float kC[] = {1.0f,           0.693147182f,   0.240226507f,   0.0555041087f,
                          0.00961812911f, 0.00133335581f, 0.000154035304f};
  float p = kC[6];
  for (int k = 5; k >= 0; --k) p = std::fma(p, f, kC[k]);
  return static_cast<uint64_t>(std::ldexp(double{p}, static_cast<int>(n) + 30));
}

int32_t ReferenceToken(const std::vector<float>& logits, const ph_state& state) {
  const int count = std::clamp(state.banned_count, 0, 16);
  const std::set<int32_t> banned(state.banned, state.banned + count);
  struct Candidate {
    int32_t id;
    float logit;
    uint64_t weight;
  };
  std::vector<Candidate> candidates;
  for (size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (!banned.contains(id) && !std::isnan(logits[i])) candidates.push_back({id, logits[i], 0});
  }
  if (candidates.empty()) {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!banned.contains(static_cast<int32_t>(i))) return static_cast<int32_t>(i);
    }
    return 0;
  }
  float largest = -kInfinity;
  for (const Candidate& c : candidates) largest = std::max(largest, c.logit);
  if (!(state.temperature > 0) || std::isinf(largest)) {
    for (const Candidate& c : candidates) {
      if (c.logit == largest) return c.id;
    }
  }
  for (Candidate& c : candidates) c.weight = Weight(c.logit, largest, state.temperature);
  if (state.top_k > 0 && static_cast<size_t>(state.top_k) < candidates.size()) {
    std::vector<float> sorted;
    for (const Candidate& c : candidates) sorted.push_back(c.logit);
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (Candidate& c : candidates) {
      if (c.logit < sorted[static_cast<size_t>(state.top_k) - 1]) c.weight = 0;
    }
  }
  if (state.top_p < 1) {
    double total = 0;
    for (const Candidate& c : candidates) total += static_cast<double>(c.weight);
    std::vector<Candidate> sorted = candidates;
    std::sort(sorted.begin(), sorted.end(),
              [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
    // Up to which logit candidates stay.
    double larger = 0;
    float lowest = largest;
    for (size_t i = 0; i < sorted.size();) {
      if (!(larger < double{state.top_p} * total)) break;
      lowest = sorted[i].logit;
      for (const float logit = sorted[i].logit; i < sorted.size() && sorted[i].logit == logit; ++i) {
        larger += static_cast<double>(sorted[i].weight);
      }
    }
    for (Candidate& c : candidates) {
      if (c.logit < lowest) c.weight = 0;
    }
  }
  uint64_t total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  const uint64_t u = Philox(state.seed, static_cast<uint32_t>(state.steps)) >> 8;
  const auto drawn = static_cast<uint64_t>((static_cast<unsigned __int128>(u) * total) >> 24);
  uint64_t sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (sum > drawn) return c.id;
  }
  return -1;
}

// ---- The region ----

class SampleUnit {
 public:
  SampleUnit(const Target& target, int64_t vocab)
      : code_(Generate(target, vocab)), unit_(code_.source, target) {}

  static RegionCode Generate(const Target& target, int64_t vocab) {
    ir::Graph graph;
    graph.nodes = {{ir::Op::kCarry, {}, {}, {tensor::DType::kF32, {ir::Dim::Of(1), ir::Dim::Of(vocab)}}},
                   {ir::Op::kSample, {0}, {}, {tensor::DType::kI32, {ir::Dim::Of(1)}}}};
    graph.logits = 0;
    graph.token = 1;
    EXPECT_TRUE(sample::CanCompile(graph, 1, target));
    return sample::Generate(graph, 1, target, {}, sample::Candidates(graph, 1, target, {}).front());
  }

  int32_t Run(const std::vector<float>& logits, ph_state* state) const {
    AlignedArray<std::byte> workspace(static_cast<size_t>(code_.workspaces[0].extent.fixed));
    std::fill_n(workspace.data(), code_.workspaces[0].extent.fixed, std::byte{0xff});
    RunLaunch(unit_, code_.launches[0], {const_cast<float*>(logits.data()), state, workspace.data()}, 1, 7,
              64);
    return state->token;
  }

 private:
  RegionCode code_;
  UnitForTest unit_;
};

ph_state Greedy(std::vector<int32_t> banned = {}) {
  ph_state state = {};
  state.top_p = 1;
  state.banned_count = static_cast<int32_t>(banned.size());
  std::copy(banned.begin(), banned.end(), state.banned);
  return state;
}

// Logits as models give them: mostly near each other, a few larger; many exact equals.
std::vector<float> RandomLogits(int64_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& x : logits) x = std::round(normal(random) * 16) / 16;
  return logits;
}

TEST(Sample, PhiloxIsThePublishedOne) {
  EXPECT_EQ(Philox(0, 0), 0x6627e8d5u);  // Random123's known answers, philox4x32 10 rounds
}

TEST(Sample, GreedyTakesTheLowestOfTheLargest) {
  for (const Target& target : TargetsHere()) {
    for (const int64_t vocab : {1, 5, 255, 300, 2000}) {
      const SampleUnit unit(target, vocab);
      std::vector<float> logits = RandomLogits(vocab, 1);
      ph_state state = Greedy();
      state.steps = 41;
      const auto last = static_cast<size_t>(vocab - 1);
      for (const size_t first : {size_t{0}, last / 2, last}) {
        std::vector<float> changed = logits;
        changed[first] = changed[last] = 100;
        EXPECT_EQ(unit.Run(changed, &state), static_cast<int32_t>(first)) << target.name << " " << vocab;
      }
      EXPECT_EQ(state.steps, 44);
    }
  }
}

TEST(Sample, GreedyPassesOverNanAndBannedIds) {
  for (const Target& target : TargetsHere()) {
    const SampleUnit unit(target, 600);
    std::vector<float> logits = RandomLogits(600, 2);
    for (const size_t i : {0, 255, 256, 511, 599}) logits[i] = kNan;
    logits[300] = 50, logits[301] = 51, logits[17] = 49;
    ph_state state = Greedy();
    EXPECT_EQ(unit.Run(logits, &state), 301);
    state = Greedy({301, -1, 100000});
    EXPECT_EQ(unit.Run(logits, &state), 300);
    state = Greedy({301, 300});
    EXPECT_EQ(unit.Run(logits, &state), 17);
    logits[301] = kInfinity;
    state = Greedy();
    EXPECT_EQ(unit.Run(logits, &state), 301);
    const std::vector<float> nans(600, kNan);
    state = Greedy({0, 1});
    EXPECT_EQ(unit.Run(nans, &state), 2);
    std::vector<float> lowest(600, -kInfinity);
    lowest[0] = kNan;
    EXPECT_EQ(unit.Run(lowest, &state), 2);
  }
}

TEST(Sample, DrawsAsDefined) {
  for (const Target& target : TargetsHere()) {
    for (const int64_t vocab : {1, 3, 320, 1000, 40000}) {
      const SampleUnit unit(target, vocab);
      std::vector<float> logits = RandomLogits(vocab, 3);
      if (vocab > 300) logits[299] = kNan, logits[7] = -kInfinity, logits[8] = -0.0f, logits[9] = 0.0f;
      for (const int32_t top_k : {0, 1, 2, 50, 999, 1 << 30}) {
        for (const float top_p : {1.0f, 0.9f, 0.3f, 0.0f}) {
          for (const float temperature : {1e-30f, 0.1f, 0.7f, 1.0f, 30.0f}) {
            ph_state state = Greedy(vocab > 1 ? std::vector<int32_t>{1, 280} : std::vector<int32_t>{});
            state.temperature = temperature;
            state.top_k = top_k;
            state.top_p = top_p;
            state.seed = 0x123456789abcdefull + static_cast<uint64_t>(top_k);
            for (state.steps = 0; state.steps < 3;) {
              const int32_t expected = ReferenceToken(logits, state);
              ASSERT_EQ(unit.Run(logits, &state), expected)
                  << target.name << " vocab " << vocab << " top_k " << top_k << " top_p " << top_p
                  << " temperature " << temperature << " step " << state.steps;
            }
          }
        }
      }
    }
  }
}

TEST(Sample, LogitsThatAllAreEqualAreAllDrawn) {
  const Target target = TargetsHere().front();
  const SampleUnit unit(target, 40);
  const std::vector<float> logits(40, -2.5f);
  std::set<int32_t> seen;
  ph_state state = Greedy({3});
  state.temperature = 1;
  state.top_k = 5;  // equals of the fifth stay
  state.top_p = 0.5f;
  for (int i = 0; i < 1000; ++i) seen.insert(unit.Run(logits, &state));
  EXPECT_EQ(seen.size(), 39u);
  EXPECT_FALSE(seen.contains(3));
}

TEST(Sample, FrequenciesFollowTheProbabilities) {
  const Target target = TargetsHere().front();
  const SampleUnit unit(target, 20);
  std::vector<float> logits(20, -kInfinity);
  logits[2] = std::log(0.5f), logits[5] = std::log(0.3f), logits[19] = std::log(0.2f);
  std::vector<int> counts(20);
  ph_state state = Greedy();
  state.temperature = 1;
  state.seed = 5;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(unit.Run(logits, &state))];
  // Five standard deviations: 5 sqrt(p (1 - p) / draws) < 0.018.
  EXPECT_NEAR(counts[2], 0.5 * kDraws, 0.018 * kDraws);
  EXPECT_NEAR(counts[5], 0.3 * kDraws, 0.018 * kDraws);
  EXPECT_NEAR(counts[19], 0.2 * kDraws, 0.018 * kDraws);
}

TEST(Sample, GeneratedTextIsTheGolden) {
  const Target target = ParseTarget("x86-64-v4");
  const std::string source = SampleUnit::Generate(target, 128256).source;
  ExpectGolden("sample.cc", WithoutPrelude(source, target, Unit::kF32));
}

}  // namespace
}  // namespace preheat::codegen
