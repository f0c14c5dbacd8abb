#include "tune/tuner.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace preheat::tune {
namespace {

double Median(std::vector<double> times) {
  CHECK(!times.empty());
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>((times.size() - 1) / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// The best of as many runs as take `least_seconds` together.
double BestOfRuns(const std::function<void()>& run, const TuneOptions& options) {
  double best = 0;
  const double start = options.clock();
  double now = start;
  do {
    const double begin = now;
    run();
    now = options.clock();
    if (best == 0 || now - begin < best) best = now - begin;
  } while (now - start < options.least_seconds);
  return best;
}

}  // namespace

Outcome Tune(size_t candidates, const std::function<void(size_t)>& run, std::span<const double> work,
             const TuneOptions& options) {
  CHECK(candidates > 0 && work.size() == candidates && options.clock);
  std::vector<std::vector<double>> times(candidates);
  std::vector<size_t> left(candidates);
  std::iota(left.begin(), left.end(), size_t{0});
  if (candidates > 1) {
    for (size_t i : left) run(i);
  }
  for (int round = 0; round < options.rounds && left.size() > 1; ++round) {
    for (size_t turn = 0; turn < left.size(); ++turn) {
      const size_t i = left[(turn + static_cast<size_t>(round)) % left.size()];
      if (options.on_turn) options.on_turn();
      times[i].push_back(BestOfRuns([&] { run(i); }, options) / work[i]);
    }
    if (round == 0) continue;
    // The slower half, but only those that are clearly slower: noise alone removes nobody.
    std::vector<size_t> ranked = left;
    std::stable_sort(ranked.begin(), ranked.end(),
                     [&](size_t a, size_t b) { return Median(times[a]) < Median(times[b]); });
    const double limit = Median(times[ranked.front()]) * options.clearly;
    const size_t keep = (ranked.size() + 1) / 2;
    ranked.erase(std::remove_if(ranked.begin() + static_cast<std::ptrdiff_t>(keep), ranked.end(),
                                [&](size_t i) { return Median(times[i]) > limit; }),
                 ranked.end());
    std::sort(ranked.begin(), ranked.end());
    left = std::move(ranked);
  }

  Outcome outcome;
  for (const std::vector<double>& own : times) {
    outcome.candidates.push_back(
        {.median_seconds = own.empty() ? 0 : Median(own), .rounds = static_cast<int>(own.size())});
  }
  outcome.winner = left.front();
  for (size_t i : left) {
    if (outcome.candidates[i].median_seconds < outcome.candidates[outcome.winner].median_seconds)
      outcome.winner = i;
  }
  return outcome;
}

}  // namespace preheat::tune
