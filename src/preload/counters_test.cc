#include "preload/counters.h"

#include <gtest/gtest.h>

namespace preheat::preload {
namespace {

TEST(Counters, DifferenceIsWhatHappenedSince) {
  const CompileCounters now{.unique_graphs = 3, .async_compile_miss = 7};
  const CompileCounters before{.unique_graphs = 1, .async_compile_miss = 7};
  EXPECT_EQ((now - before).unique_graphs, 2);
  EXPECT_EQ((now - before).async_compile_miss, 0);
}

TEST(Counters, FindingIsNotCompiling) {
  EXPECT_FALSE((CompileCounters{.async_compile_hit = 5, .aot_cache_hit = 1}).Compiled());
  EXPECT_TRUE((CompileCounters{.async_compile_miss = 1}).Compiled());
}

}  // namespace
}  // namespace preheat::preload
