// Candidates + clock -> winner. Knows no model, no device and no schedule: a candidate is something that
// runs.
//
// Machines drift by the minute, so candidates are measured interleaved: each round runs every candidate that
// is left once, in an order that turns with the rounds. After each round the slower half drops out where its
// best time is clearly worse, until one is left or the rounds are spent. The median of a candidate's times
// decides; equals go to the earlier candidate, so the heuristic's choice comes first in the list.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

namespace preheat::tune {

struct TuneOptions {
  int rounds = 5;            // at most
  double clearly = 1.05;     // a candidate may drop out where it is this much worse than the best of all
  double least_seconds = 0;  // a time is the best of as many runs as take this long together; at least one
  // Seconds of now; the test's own clock, or sys::MonotonicSeconds.
  std::function<double()> clock;
  // Called before each time of a candidate is taken, at most `rounds` times a candidate; null: not.
  std::function<void()> on_turn;
};

struct Measured {
  double median_seconds = 0;  // over the rounds that it took part in
  int rounds = 0;
};

struct Outcome {
  size_t winner = 0;
  std::vector<Measured> candidates;  // in the order given
};

// `run(i)` does the work of candidate i once; it is warmed up by one run that does not count. `work[i]`
// scales: a candidate that did only a part of the work says which (1: all of it). REQUIRES: sizes agree, not
// empty.
Outcome Tune(size_t candidates, const std::function<void(size_t)>& run, std::span<const double> work,
             const TuneOptions& options);

}  // namespace preheat::tune
