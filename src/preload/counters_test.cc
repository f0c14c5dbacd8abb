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

TEST(Counters, EachIsAddedAndTakenAwayByItself) {
  const CompileCounters all{.unique_graphs = 1,
                            .calls_captured = 2,
                            .async_compile_miss = 3,
                            .async_compile_hit = 4,
                            .fxgraph_cache_miss = 5,
                            .fxgraph_cache_hit = 6,
                            .aot_cache_miss = 7,
                            .aot_cache_hit = 8,
                            .driver_compile = 9};
  CompileCounters twice = all;
  twice += all;
  EXPECT_EQ(twice.calls_captured, 4);
  EXPECT_EQ(twice.aot_cache_hit, 16);
  EXPECT_EQ(twice.driver_compile, 18);
  EXPECT_EQ(twice - all, all);
  EXPECT_EQ(all - all, CompileCounters{});
}

TEST(Counters, FindingIsNotCompiling) {
  EXPECT_FALSE((CompileCounters{.async_compile_hit = 5, .aot_cache_hit = 1}).Compiled());
  EXPECT_TRUE((CompileCounters{.async_compile_miss = 1}).Compiled());
  EXPECT_TRUE((CompileCounters{.driver_compile = 1}).Compiled());
}

}  // namespace
}  // namespace preheat::preload
