#include "ir/sample_reference.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace preheat::ir {
namespace {

constexpr double kExcluded = -HUGE_VAL;

std::vector<double> Allowed(std::span<const float> logits, const ph_state& state) {
  std::vector<double> scores(logits.begin(), logits.end());
  const int banned = std::clamp<int>(state.banned_count, 0, static_cast<int>(std::size(state.banned)));
  for (int i = 0; i < banned; ++i) {
    const int32_t id = state.banned[i];
    if (id >= 0 && static_cast<size_t>(id) < scores.size()) scores[static_cast<size_t>(id)] = kExcluded;
  }
  if (std::all_of(scores.begin(), scores.end(), [](double score) { return score == kExcluded; })) {
    scores.assign(logits.begin(), logits.end());
  }
  for (double& score : scores) {
    if (std::isnan(score)) score = kExcluded;
  }
  return scores;
}

// exp(s - largest), 0 for what is excluded.
std::vector<double> Weights(const std::vector<double>& scores) {
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    weights[i] = scores[i] == largest ? 1.0 : std::exp(scores[i] - largest);
  }
  return weights;
}

void KeepTopK(int32_t top_k, std::vector<double>& scores) {
  if (top_k <= 0 || static_cast<size_t>(top_k) >= scores.size()) return;
  std::vector<double> sorted = scores;
  std::nth_element(sorted.begin(), sorted.begin() + (top_k - 1), sorted.end(), std::greater<>());
  const double least = sorted[static_cast<size_t>(top_k - 1)];
  for (double& score : scores) {
    if (score < least) score = kExcluded;
  }
}

void KeepTopP(float top_p, std::vector<double>& scores) {
  if (!(top_p < 1)) return;
  const std::vector<double> weights = Weights(scores);
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  const double limit = static_cast<double>(top_p) * std::accumulate(weights.begin(), weights.end(), 0.0);
  double larger = 0;  // the weights of strictly larger scores
  for (size_t i = 0; i < order.size();) {
    const double score = scores[order[i]];
    const bool keep = i == 0 || larger < limit;
    double equals = 0;
    for (; i < order.size() && scores[order[i]] == score && score != kExcluded; ++i)
      equals += weights[order[i]];
    if (score == kExcluded) return;
    larger += equals;
    if (keep) continue;
    for (double& other : scores) {
      if (other <= score) other = kExcluded;
    }
    return;
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
  std::vector<double> scores = Allowed(logits, state);
  if (!(state.temperature > 0)) {
    return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  }
  for (double& score : scores) score = static_cast<double>(static_cast<float>(score) / state.temperature);
  KeepTopK(state.top_k, scores);
  KeepTopP(state.top_p, scores);
  const std::vector<double> weights = Weights(scores);
  const uint32_t word =
      Philox4x32({static_cast<uint32_t>(state.steps), 0, 0, 0},
                 {static_cast<uint32_t>(state.seed), static_cast<uint32_t>(state.seed >> 32)})[0];
  const double target =
      static_cast<double>(word >> 8) * 0x1p-24 * std::accumulate(weights.begin(), weights.end(), 0.0);
  double sum = 0;
  for (size_t id = 0; id < weights.size(); ++id) {
    sum += weights[id];
    if (sum > target) return static_cast<int32_t>(id);
  }
  // Only rounding of the sums can come here.
  return static_cast<int32_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

}  // namespace preheat::ir
