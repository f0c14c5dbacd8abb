// The next token from the last row of logits, as ir/sample_reference.h defines it; the state is
// kernel_abi.h's.
#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <vector>

#include "eager/module/kernels.h"
#include "eager/module/matrix.h"

namespace preheat::eager {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// The first word of Philox4x32-10 (https://doi.org/10.1145/2063384.2063405) for key = seed, counter = {steps,
// 0, 0, 0}.
uint32_t Philox(uint64_t seed, uint32_t steps) {
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  uint32_t counter[4] = {steps, 0, 0, 0};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    std::copy(next, next + 4, counter);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter[0];
}

// Scores below the k-th largest go.
void KeepTopK(std::vector<int32_t>& kept, const float* scores, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(kept.size())) return;
  std::vector<float> values(kept.size());
  std::transform(kept.begin(), kept.end(), values.begin(), [&](int32_t id) { return scores[id]; });
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), std::greater<>());
  const float least = values[static_cast<size_t>(k - 1)];
  std::erase_if(kept, [&](int32_t id) { return scores[id] < least; });
}

// A score stays where the weights of all larger ones make up less than top_p; the largest stays always.
void KeepTopP(std::vector<int32_t>& kept, const float* scores, const std::vector<double>& weights,
              double top_p) {
  if (!(top_p < 1)) return;
  std::vector<int32_t> order = kept;
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  double limit = 0;
  for (const int32_t id : kept) limit += weights[static_cast<size_t>(id)];
  limit *= top_p;
  double larger = 0;
  for (size_t i = 0; i < order.size();) {
    const float score = scores[order[i]];
    if (i > 0 && larger >= limit) {
      std::erase_if(kept, [&](int32_t id) { return scores[id] <= score; });
      return;
    }
    for (; i < order.size() && scores[order[i]] == score; ++i)
      larger += weights[static_cast<size_t>(order[i])];
  }
}

// The lowest id among the largest.
int32_t Largest(const float* scores, int64_t count) {
  return static_cast<int32_t>(std::max_element(scores, scores + count) - scores);
}

// REQUIRES: not all scores are minus infinity. Overwrites them.
int32_t Draw(const ph_state& state, float* scores, int64_t count) {
  std::vector<int32_t> kept;
  for (int64_t i = 0; i < count; ++i) {
    scores[i] /= state.temperature;
    if (scores[i] > kMinusInfinity) kept.push_back(static_cast<int32_t>(i));
  }
  KeepTopK(kept, scores, state.top_k);
  const int32_t best = Largest(scores, count);
  std::vector<double> weights(static_cast<size_t>(count));
  for (const int32_t id : kept) {
    weights[static_cast<size_t>(id)] = id == best ? 1.0 : std::exp(double{scores[id]} - double{scores[best]});
  }
  KeepTopP(kept, scores, weights, state.top_p);
  double target = 0;
  for (const int32_t id : kept) target += weights[static_cast<size_t>(id)];
  target *= (Philox(state.seed, static_cast<uint32_t>(state.steps)) >> 8) * 0x1p-24;
  double sum = 0;
  for (const int32_t id : kept) {
    sum += weights[static_cast<size_t>(id)];
    if (sum > target) return id;
  }
  return best;  // only rounding of the sums can come here
}

}  // namespace

void Sample(const ph_args& args) {
  auto& state = *static_cast<ph_state*>(args.operands[0]);
  const Matrix logits = Operand(args, 1);
  const int64_t count = logits.columns;
  float* scores = ScratchFloats(Scratch::kSample, count);
  const auto load = [&] {
    LoadRow(BestLoops(), scores, logits.At(logits.rows - 1), logits.dtype, count);
    for (int64_t i = 0; i < count; ++i) {
      if (std::isnan(scores[i])) scores[i] = kMinusInfinity;
    }
  };
  const auto none_left = [&] { return scores[Largest(scores, count)] == kMinusInfinity; };
  load();
  const int banned = std::clamp<int>(state.banned_count, 0, static_cast<int>(std::size(state.banned)));
  for (int i = 0; i < banned; ++i) {
    const int32_t id = state.banned[i];
    if (id >= 0 && id < count) scores[id] = kMinusInfinity;
  }
  if (none_left()) load();  // a ban of everything is void
  state.token = state.temperature > 0 && !none_left() ? Draw(state, scores, count) : Largest(scores, count);
  ++state.steps;
}

}  // namespace preheat::eager
