#include "measure/metrics.h"

#include <gtest/gtest.h>

#include "measure/statistics.h"

namespace preheat::measure {
namespace {

TEST(Statistics, OfAnEmptySampleAreZero) {
  EXPECT_EQ(Mean({}), 0);
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Ratio(1, 0), 0);
}

TEST(Statistics, QuantileInterpolatesBetweenNeighbours) {
  const double sample[] = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(Median(sample), 2.5);
  EXPECT_DOUBLE_EQ(Quantile(sample, 0.9), 3.7);
  EXPECT_DOUBLE_EQ(Quantile(sample, 1), 4);
}

TEST(Metrics, RunLineReadsBack) {
  RunMetrics metrics;
  metrics.load_artifacts = true;
  metrics.new_tokens = 128;
  metrics.counters.aot_cache_hit = 2;
  metrics.counters.driver_compile = 3;
  metrics.prefill_buckets = {128, 256};
  metrics.completion = "two\nlines \"quoted\"";
  const auto parsed = ParseRunMetrics("noise\n" + ToLine(metrics) + "\nmore\n");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->new_tokens, 128);
  EXPECT_EQ(parsed->counters, metrics.counters);
  EXPECT_EQ(parsed->prefill_buckets, metrics.prefill_buckets);
  EXPECT_EQ(parsed->completion, metrics.completion);
}

TEST(Metrics, BenchTailLeavesTheFirstRequestOut) {
  BenchMetrics metrics;
  metrics.request_latencies = {10, 2, 4};
  metrics.request_new_tokens = {8, 8, 16};
  metrics.total_script_seconds = 32;
  EXPECT_DOUBLE_EQ(metrics.TailMean(), 3);
  EXPECT_DOUBLE_EQ(metrics.TailTokensPerSecond(), 4);
  EXPECT_DOUBLE_EQ(metrics.TokensPerSecondAll(), 2);
  EXPECT_DOUBLE_EQ(metrics.EndToEndTokensPerSecond(), 1);
}

TEST(Metrics, BenchLineReadsBack) {
  BenchMetrics metrics;
  metrics.mode = "eager";
  metrics.request_latencies = {1.5, 0.5};
  metrics.request_new_tokens = {3, 3};
  metrics.request_counters = {{.unique_graphs = 1}, {}};
  const auto parsed = ParseBenchMetrics(ToLine(metrics));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->request_latencies, metrics.request_latencies);
  ASSERT_EQ(parsed->request_counters.size(), 2u);
  EXPECT_EQ(parsed->request_counters[0].unique_graphs, 1);
}

TEST(Metrics, MalformedOrMissingLineIsNothing) {
  EXPECT_FALSE(ParseRunMetrics("METRICS_JSON:{\"new_tokens\": \"many\"}"));
  EXPECT_FALSE(ParseRunMetrics("METRICS_JSON:{"));
  EXPECT_FALSE(ParseBenchMetrics("nothing here"));
}

}  // namespace
}  // namespace preheat::measure
