#include "measure/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace preheat::measure {

double Mean(std::span<const double> sample) {
  return Ratio(std::accumulate(sample.begin(), sample.end(), 0.0), static_cast<double>(sample.size()));
}

double Median(std::span<const double> sample) {
  return Quantile(sample, 0.5);
}

double Quantile(std::span<const double> sample, double fraction) {
  CHECK(fraction >= 0 && fraction <= 1);
  if (sample.empty()) return 0;
  std::vector<double> sorted(sample.begin(), sample.end());
  std::sort(sorted.begin(), sorted.end());
  const double rank = fraction * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(std::floor(rank));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (rank - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double Ratio(double numerator, double denominator) {
  return denominator > 0 ? numerator / denominator : 0;
}

}  // namespace preheat::measure
