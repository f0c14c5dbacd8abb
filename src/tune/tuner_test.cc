#include "tune/tuner.h"

#include <gtest/gtest.h>

namespace preheat::tune {
namespace {

// A machine on which candidate i takes cost(i, n-th run) seconds.
struct FakeMachine {
  std::function<double(size_t, int)> cost;
  double now = 0;
  std::vector<int> runs = std::vector<int>(16, 0);

  Outcome Run(size_t candidates, int rounds, std::vector<double> work = {}) {
    if (work.empty()) work.assign(candidates, 1.0);
    return Tune(candidates, [&](size_t i) { now += cost(i, runs[i]++); }, work,
                {.rounds = rounds, .clock = [&] { return now; }});
  }
};

TEST(Tune, TheFastestWins) {
  FakeMachine machine{.cost = [](size_t i, int) { return i == 2 ? 1.0 : 2.0 + static_cast<double>(i); }};
  const Outcome outcome = machine.Run(5, 5);
  EXPECT_EQ(outcome.winner, 2u);
  EXPECT_DOUBLE_EQ(outcome.candidates[2].median_seconds, 1.0);
}

TEST(Tune, SlowCandidatesDropOut) {
  FakeMachine machine{.cost = [](size_t i, int) { return i < 2 ? 1.0 : 10.0; }};
  const Outcome outcome = machine.Run(8, 6);
  EXPECT_EQ(outcome.candidates[7].rounds, 2);
  EXPECT_EQ(outcome.candidates[0].rounds, 6);
}

TEST(Tune, EveryTurnIsToldBeforeItsTimeIsTaken) {
  double now = 0;
  int64_t told = 0;
  const auto cost = [](size_t i) { return i < 2 ? 1.0 : 10.0; };
  const Outcome outcome = Tune(5, [&](size_t i) { now += cost(i); }, std::vector<double>(5, 1.0),
                               {.rounds = 4,
                                .clock = [&] { return now; },
                                .on_turn =
                                    [&] {
                                      now += 1000;  // drawing a bar takes its time
                                      ++told;
                                    }});
  int64_t turns = 0;
  for (size_t i = 0; i < 5; ++i) {
    turns += outcome.candidates[i].rounds;
    EXPECT_DOUBLE_EQ(outcome.candidates[i].median_seconds, cost(i));
  }
  EXPECT_EQ(told, turns);
}

TEST(Tune, TheWarmUpDoesNotCount) {
  FakeMachine machine{
      .cost = [](size_t i, int run) { return run == 0 ? 100.0 : 1.0 + static_cast<double>(i); }};
  EXPECT_DOUBLE_EQ(machine.Run(2, 3).candidates[0].median_seconds, 1.0);
}

TEST(Tune, EqualsGoToTheEarlier) {
  FakeMachine machine{.cost = [](size_t, int) { return 1.0; }};
  EXPECT_EQ(machine.Run(4, 3).winner, 0u);
}

TEST(Tune, OneSpikeDoesNotDecide) {
  FakeMachine machine{
      .cost = [](size_t i, int run) { return i == 0 && run == 2 ? 50.0 : 1.0 + static_cast<double>(i); }};
  EXPECT_EQ(machine.Run(2, 5).winner, 0u);
}

TEST(Tune, ShortRunsAreRepeatedAndTheBestCounts) {
  FakeMachine machine{
      .cost = [](size_t i, int run) { return run % 3 == 0 ? 5.0 : 1.0 + static_cast<double>(i); }};
  const std::vector<double> work = {1, 1};
  const Outcome outcome = Tune(2, [&](size_t i) { machine.now += machine.cost(i, machine.runs[i]++); }, work,
                               {.rounds = 3, .least_seconds = 7, .clock = [&] { return machine.now; }});
  EXPECT_DOUBLE_EQ(outcome.candidates[0].median_seconds, 1.0);
  EXPECT_DOUBLE_EQ(outcome.candidates[1].median_seconds, 2.0);
}

TEST(Tune, PartsOfTheWorkCompareAsWholes) {
  FakeMachine machine{.cost = [](size_t i, int) { return i == 0 ? 1.0 : 0.75; }};
  // Candidate 1 did half of the work in three quarters of the time.
  EXPECT_EQ(machine.Run(2, 3, {1.0, 0.5}).winner, 0u);
}

TEST(Tune, ASingleCandidateIsNotRun) {
  FakeMachine machine{.cost = [](size_t, int) { return 1.0; }};
  EXPECT_EQ(machine.Run(1, 3).winner, 0u);
  EXPECT_EQ(machine.runs[0], 0);
}

}  // namespace
}  // namespace preheat::tune
