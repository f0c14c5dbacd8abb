#include "codegen/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "codegen/attention_for_test.h"
#include "codegen/buffers.h"
#include "codegen/unit_for_test.h"
#include "tensor/bf16.h"

namespace preheat::codegen {
namespace {

using tensor::DType;

// How far a result may be from the exact one. Scores and sums in f32 lose little: 1e-5. Rounding
// probabilities to bf16 (2^-9 each, against a weighted mean of values up to 1 in size) and storing the result
// as bf16 (2^-9) add.
double Bound(const AttentionCase& c) {
  double bound = 1e-5;
  if (c.query == DType::kBf16) bound += 1.0 / 512;
  if (c.result == DType::kBf16) bound += 1.0 / 256;
  return bound;
}

void ExpectNear(const std::vector<double>& expected, const std::vector<float>& actual, double bound,
                const std::string& what) {
  ASSERT_EQ(expected.size(), actual.size()) << what;
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(expected[i] - actual[i]);
    worst = std::max(worst, std::isnan(error) ? HUGE_VAL : error);
  }
  EXPECT_LE(worst, bound) << what;
}

struct Types {
  DType query, cache, result;
};
constexpr Types kTypes[] = {{DType::kBf16, DType::kBf16, DType::kBf16},
                            {DType::kF32, DType::kF32, DType::kF32},
                            {DType::kF32, DType::kBf16, DType::kF32},
                            {DType::kF32, DType::kF16, DType::kF32}};
struct Heads {
  int64_t kv_heads, group, head_dim;
};
constexpr Heads kHeads[] = {{2, 3, 128}, {2, 4, 64}, {1, 1, 32}, {1, 3, 80}, {2, 1, 16}, {1, 7, 64}};

// Every type with the first shape, every shape with the first two types, on every target.
std::vector<AttentionCase> Cases(int64_t block) {
  std::vector<AttentionCase> cases;
  for (const Target& target : TargetsHere()) {
    for (size_t t = 0; t < std::size(kTypes); ++t) {
      for (size_t h = 0; h < std::size(kHeads); ++h) {
        if (t > 1 && h > 0) continue;
        cases.push_back({.target = target,
                         .kv_heads = kHeads[h].kv_heads,
                         .group = kHeads[h].group,
                         .head_dim = kHeads[h].head_dim,
                         .query = kTypes[t].query,
                         .cache = kTypes[t].cache,
                         .result = block == 0 ? kTypes[t].result : DType::kF32,
                         .block = block});
      }
    }
  }
  return cases;
}

TEST(Attention, IsTheReferenceOnEveryTargetTypeAndShape) {
  for (const AttentionCase& c : Cases(0)) {
    const AttentionUnit unit(c, {});
    for (const int64_t n : {1, 2, 5, 16, 17, 33, 128}) {
      for (const int64_t past : {0, 1, 15, 16, 17, 300}) {
        const AttentionData data(c, n, past, past + n + 37);
        ExpectNear(data.Reference(), unit.Run(data), Bound(c), c.Name() + data.Name());
      }
    }
  }
}

TEST(SplitAttention, MergedIsTheReferenceOnEveryTargetTypeAndShape) {
  for (const AttentionCase& c : Cases(128)) {
    const AttentionUnit unit(c, {});
    for (const int64_t past : {0, 1, 15, 16, 17, 63, 64, 127, 128, 129, 300}) {
      const AttentionData data(c, 1, past, past + 38);
      ExpectNear(data.Reference(), unit.Run(data), Bound(c), c.Name() + data.Name());
    }
  }
}

TEST(Attention, OfTheLastRowAloneIsTheReferencesLast) {
  for (const int64_t block : {0, 128}) {
    for (AttentionCase c : Cases(block)) {
      c.last_row_alone = true;
      const AttentionUnit unit(c, {});
      for (const int64_t n : {1, 2, 17, 128}) {
        for (const int64_t past : {0, 1, 130}) {
          const AttentionData data = AttentionData(c, n, past, past + n + 37).LastRowAlone();
          ExpectNear(data.Reference(), unit.Run(data), Bound(c), c.Name() + data.Name());
        }
      }
    }
  }
}

// What lies in slots of the cache that no row sees, and how a step is cut into tiles and steps, changes no
// bit.
TEST(Attention, RowsAreTheSameBitsForEveryScheduleAndStep) {
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      const AttentionCase c{.target = target,
                            .kv_heads = 1,
                            .group = 3,
                            .head_dim = 64,
                            .query = dtype,
                            .cache = dtype,
                            .result = DType::kF32};
      const AttentionData whole(c, 150, 20, 192);
      const std::vector<float> expected = AttentionUnit(c, {}).Run(whole);
      const StepShape shape;
      for (const Schedule& schedule : c.Candidates(shape)) {
        EXPECT_EQ(expected, AttentionUnit(c, schedule).Run(whole)) << c.Name() << ToText(schedule);
      }
      // Each row by itself, the cache filled no further than it sees, garbage behind.
      const AttentionUnit unit(c, {});
      const int64_t row_elements = c.kv_heads * c.group * c.head_dim;
      for (const int64_t row : {0, 1, 43, 44, 107, 149}) {
        for (const float garbage : {std::numeric_limits<float>::quiet_NaN(), 3e38f, -1.0f}) {
          const std::vector<float> alone = unit.Run(whole.OneRow(row, garbage));
          EXPECT_TRUE(std::equal(alone.begin(), alone.end(), expected.begin() + row * row_elements))
              << c.Name() << " row " << row;
        }
      }
    }
  }
}

TEST(SplitAttention, OnePartIsThePrefillsRow) {
  for (const Target& target : TargetsHere()) {
    AttentionCase c{.target = target,
                    .kv_heads = 2,
                    .group = 3,
                    .head_dim = 128,
                    .query = DType::kBf16,
                    .cache = DType::kBf16,
                    .result = DType::kF32};
    const AttentionData data(c, 1, 200, 256);
    const std::vector<float> prefill = AttentionUnit(c, {}).Run(data);
    c.block = 256;
    EXPECT_EQ(prefill, AttentionUnit(c, {}).Run(data)) << c.Name();
  }
}

TEST(SplitAttention, RowsOneByOneAreThePrefill) {
  const Target target = TargetsHere().front();
  AttentionCase c{.target = target,
                  .kv_heads = 2,
                  .group = 3,
                  .head_dim = 64,
                  .query = DType::kBf16,
                  .cache = DType::kBf16,
                  .result = DType::kF32};
  const AttentionData data(c, 200, 0, 208);
  const std::vector<float> prefill = AttentionUnit(c, {}).Run(data);
  c.block = 64;
  const AttentionUnit decode(c, {});
  const size_t width = static_cast<size_t>(c.heads() * c.head_dim);
  // Parts of one block each: other maxima at which probabilities are rounded to bf16.
  for (const int64_t row : {0, 1, 62, 63, 64, 65, 127, 128, 199}) {
    const std::vector<float> one = decode.Run(data.OneRow(row, std::numeric_limits<float>::quiet_NaN()));
    const size_t begin = static_cast<size_t>(row) * width;
    for (size_t i = 0; i < width; ++i) ASSERT_NEAR(one[i], prefill[begin + i], 1.0 / 256) << "row " << row;
    if (row < c.block) {
      EXPECT_TRUE(std::equal(one.begin(), one.end(), prefill.begin() + static_cast<ptrdiff_t>(begin)));
    }
  }
}

TEST(Attention, NanInWhatARowSeesReachesIt) {
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      const AttentionCase c{.target = target,
                            .kv_heads = 1,
                            .group = 1,
                            .head_dim = 64,
                            .query = dtype,
                            .cache = dtype,
                            .result = DType::kF32};
      AttentionData data(c, 3, 0, 16);
      data.PoisonKey(1);
      const std::vector<float> result = AttentionUnit(c, {}).Run(data);
      EXPECT_FALSE(std::isnan(result[0])) << c.Name();
      EXPECT_TRUE(std::isnan(result[64])) << c.Name();
      EXPECT_TRUE(std::isnan(result[128])) << c.Name();
    }
  }
}

TEST(SplitAttention, PartsBehindTheLastPositionAreNotWritten) {
  const Target target = TargetsHere().back();
  const AttentionCase c{.target = target,
                        .kv_heads = 1,
                        .group = 2,
                        .head_dim = 16,
                        .query = DType::kF32,
                        .cache = DType::kF32,
                        .result = DType::kF32,
                        .block = 64};
  const AttentionData data(c, 1, 63, 256);
  const std::vector<float> partial = AttentionUnit(c, {}).RunPartial(data);
  const size_t stride = static_cast<size_t>(RowStride(c.Result()));
  EXPECT_FALSE(std::isnan(partial[0]));
  EXPECT_TRUE(std::isnan(partial[2 * stride])) << "only the first part has positions";
}

TEST(Attention, WhatCannotBeCompiledIsSaid) {
  AttentionCase c{.target = ParseTarget("x86-64-v3"),
                  .kv_heads = 2,
                  .group = 2,
                  .head_dim = 64,
                  .query = DType::kF32,
                  .cache = DType::kF32,
                  .result = DType::kF32};
  EXPECT_TRUE(c.CanCompile());
  c.head_dim = 24;
  EXPECT_FALSE(c.CanCompile());
  c.head_dim = 64;
  c.block = 100;
  EXPECT_FALSE(c.CanCompile());
  c.block = 128;
  EXPECT_TRUE(c.CanCompile());
}

TEST(Attention, GeneratedTextIsTheGolden) {
  AttentionCase c{.target = ParseTarget("x86-64-v4+avx512bf16"),
                  .kv_heads = 8,
                  .group = 3,
                  .head_dim = 128,
                  .query = DType::kBf16,
                  .cache = DType::kBf16,
                  .result = DType::kBf16};
  ExpectGolden("attention_bf16_pairs.cc", WithoutPrelude(c.Generate({}).source, c.target, Unit::kBf16Pair));
  c.result = DType::kF32;
  c.block = 256;
  ExpectGolden("split_attention_bf16_pairs.cc",
               WithoutPrelude(c.Generate({}).source, c.target, Unit::kBf16Pair));
  c = {.target = ParseTarget("x86-64-v3"),
       .kv_heads = 8,
       .group = 4,
       .head_dim = 64,
       .query = DType::kF32,
       .cache = DType::kBf16,
       .result = DType::kF32};
  ExpectGolden("attention_f32_lanes8.cc", WithoutPrelude(c.Generate({}).source, c.target, Unit::kF32));
}

}  // namespace
}  // namespace preheat::codegen
