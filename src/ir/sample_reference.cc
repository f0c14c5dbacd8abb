#include "ir/sample_reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "base/check.h"

namespace preheat::ir {
namespace {

struct Candidate {
  int32_t id;
  float logit;
  uint64_t weight;
};

bool IsBanned(int32_t id, const ph_state& state) {
  const int count = std::clamp<int>(state.banned_count, 0, static_cast<int>(std::size(state.banned)));
  return std::find(state.banned, state.banned + count, id) != state.banned + count;
}

uint64_t WeightOf(float logit, float largest, float temperature) {
  static constexpr float kPowers[] = {1.0f,           0.693147182f,   0.240226507f,   0.0555041087f,
                                      0.00961812911f, 0.00133335581f, 0.000154035304f};
  const float c = 1.44269504f / std::max(temperature, 1e-6f);
  const float scaled = (logit - largest) * c;
  const float t = scaled > -40.0f ? scaled : -40.0f;  // -infinity times 0 too
  const float n = std::nearbyint(t);  // to nearest even, as adding and subtracting 1.5 * 2^23 does
  const float f = t - n;
  float p = kPowers[6];
  for (int k = 5; k >= 0; --k) p = std::fma(p, f, kPowers[k]);
  return static_cast<uint64_t>(std::ldexp(p, static_cast<int>(n) + 30));
}

uint64_t Total(const std::vector<Candidate>& candidates) {
  uint64_t total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  return total;
}

void KeepTopK(int32_t top_k, std::vector<Candidate>& candidates) {
  if (top_k <= 0 || static_cast<size_t>(top_k) >= candidates.size()) return;
  std::vector<float> logits;
  for (const Candidate& candidate : candidates) logits.push_back(candidate.logit);
  std::nth_element(logits.begin(), logits.begin() + (top_k - 1), logits.end(), std::greater<>());
  const float least = logits[static_cast<size_t>(top_k - 1)];
  for (Candidate& candidate : candidates) {
    if (candidate.logit < least) candidate.weight = 0;
  }
}

void KeepTopP(float top_p, float largest, std::vector<Candidate>& candidates) {
  if (!(top_p < 1)) return;
  std::map<float, uint64_t, std::greater<>> weights;  // of all candidates with a logit, the largest first
  for (const Candidate& candidate : candidates) weights[candidate.logit] += candidate.weight;
  const double limit = static_cast<double>(top_p) * static_cast<double>(Total(candidates));
  uint64_t larger = 0;
  std::map<float, bool> stays;
  for (const auto& [logit, weight] : weights) {
    stays[logit] = logit == largest || static_cast<double>(larger) < limit;
    larger += weight;
  }
  for (Candidate& candidate : candidates) {
    if (!stays[candidate.logit]) candidate.weight = 0;
  }
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

int32_t SampleToken(std::span<const float> logits, const ph_state& state) {
  CHECK(!logits.empty());
  std::vector<Candidate> candidates;
  int32_t lowest_allowed = -1;
  for (int32_t id = 0; id < static_cast<int32_t>(logits.size()); ++id) {
    if (IsBanned(id, state)) continue;
    if (lowest_allowed < 0) lowest_allowed = id;
    const float logit = logits[static_cast<size_t>(id)];
    if (!std::isnan(logit)) candidates.push_back({id, logit, 0});
  }
  if (candidates.empty()) return std::max(lowest_allowed, 0);
  const auto smaller = [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; };
  const Candidate best =
      *std::max_element(candidates.begin(), candidates.end(), smaller);  // the first of equals
  if (!(state.temperature > 0) || std::isinf(best.logit)) return best.id;

  for (Candidate& candidate : candidates) {
    candidate.weight = WeightOf(candidate.logit, best.logit, state.temperature);
  }
  KeepTopK(state.top_k, candidates);
  KeepTopP(state.top_p, best.logit, candidates);
  const uint32_t word =
      Philox4x32({static_cast<uint32_t>(state.steps), 0, 0, 0},
                 {static_cast<uint32_t>(state.seed), static_cast<uint32_t>(state.seed >> 32)})[0];
  // 24 bits times at most 2^31 ids of 2^30 do not fit 64.
  const auto target =
      static_cast<uint64_t>((static_cast<unsigned __int128>(word >> 8) * Total(candidates)) >> 24);
  uint64_t sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += candidate.weight;
    if (sum > target) return candidate.id;
  }
  CHECK(false);  // u < 2^24, so the target is below the total, which the best candidate makes positive
  return best.id;
}

}  // namespace preheat::ir
