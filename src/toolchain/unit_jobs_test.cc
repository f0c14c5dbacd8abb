#include "toolchain/unit_jobs.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::toolchain {
namespace {

std::vector<Unit> UnitsOf(std::initializer_list<size_t> sizes) {
  std::vector<Unit> units;
  for (const size_t size : sizes)
    units.push_back({.name = "u" + std::to_string(units.size()), .source = std::string(size, 'x')});
  return units;
}

TEST(UnitJobs, TheLongestTextsComeFirstAndResultsStandInTheUnitsOrder) {
  std::vector<size_t> order;
  const auto compiled =
      CompileSideBySide(UnitsOf({3, 9, 1, 9}), {.jobs = 1}, [&](const Unit& unit, size_t i) {
        order.push_back(i);
        return CompiledUnit{.report = unit.name};
      });
  EXPECT_EQ(order, (std::vector<size_t>{1, 3, 0, 2}));
  for (size_t i = 0; i < compiled.size(); ++i) EXPECT_EQ(compiled[i].report, "u" + std::to_string(i));
}

TEST(UnitJobs, AnErrorEndsIt) {
  int calls = 0;
  const auto fail = [&](const Unit&, size_t) -> CompiledUnit {
    ++calls;
    throw base::MakeError(base::ErrorKind::kToolFailed, "no");
  };
  EXPECT_THROW(CompileSideBySide(UnitsOf({1, 2, 3}), {.jobs = 1}, fail), base::Error);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace preheat::toolchain
