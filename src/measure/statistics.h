// The numbers that reports are made of. All take seconds, bytes or ratios alike; an empty sample gives 0.
#pragma once

#include <span>

namespace preheat::measure {

double Mean(std::span<const double> sample);
double Median(std::span<const double> sample);
// The smallest value that at least `fraction` of the sample does not exceed, linearly interpolated between
// neighbours (numpy's default method), 0 <= fraction <= 1.
double Quantile(std::span<const double> sample, double fraction);
// numerator / denominator, 0 where the denominator is not positive.
double Ratio(double numerator, double denominator);

}  // namespace preheat::measure
