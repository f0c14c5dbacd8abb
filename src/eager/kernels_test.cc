// The module's kernels against plain loops, over awkward shapes and all types.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "eager/kernels_for_test.h"
#include "ir/sample_reference.h"

#ifndef PREHEAT_EAGER_WITHOUT_MODULE
namespace preheat::eager {
namespace {

struct Types {
  DType x, weight, out;
};

TEST(EagerKernels, LinearMatchesPlainSums) {
  const int64_t shapes[][3] = {{1, 33, 7}, {5, 33, 7},    {1, 64, 320}, {17, 130, 65},
                               {3, 1, 1},  {40, 257, 96}, {2, 96, 1000}};
  const Types types[] = {
      {DType::kBf16, DType::kBf16, DType::kBf16}, {DType::kBf16, DType::kBf16, DType::kF32},
      {DType::kF32, DType::kF32, DType::kF32},    {DType::kF32, DType::kF16, DType::kF32},
      {DType::kF32, DType::kBf16, DType::kBf16},  {DType::kF16, DType::kF16, DType::kF16}};
  for (const auto& [rows, in, out] : shapes) {
    for (const Types& t : types) {
      for (const bool has_bias : {false, true}) {
        Data x = Random(t.x, rows, in, 1, 3);
        Data weight = Weight(Random(t.weight, out, in, 2));
        Data bias = Weight(Random(t.weight, 1, out, 3));
        Data y(t.out, rows, out, 5);
        std::vector<Data*> operands = {&y, &x, &weight};
        if (has_bias) operands.push_back(&bias);
        Launch(has_bias ? "linear_bias" : "linear", operands, {}, {.rows = rows});
        TheModule().ReleaseWeights();  // the next weights may lie where these did

        const auto xs = x.Get(), ws = weight.Get(), bs = bias.Get();
        std::vector<double> expected, magnitude;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t o = 0; o < out; ++o) {
            double sum = has_bias ? bs[static_cast<size_t>(o)] : 0;
            double size = std::abs(sum);
            for (int64_t i = 0; i < in; ++i) {
              const double term =
                  double{xs[static_cast<size_t>(r * in + i)]} * ws[static_cast<size_t>(o * in + i)];
              sum += term;
              size += std::abs(term);
            }
            expected.push_back(sum);
            magnitude.push_back(size);
          }
        }
        ExpectNear(y.Get(), expected, magnitude, Tolerance(t.out, t.x, in),
                   fmt::format("rows {} in {} out {} types {} {} {} bias {}", rows, in, out, ShortName(t.x),
                               ShortName(t.weight), ShortName(t.out), has_bias));
      }
    }
  }
}

TEST(EagerKernels, RmsNormMatchesPlainSums) {
  for (const int64_t width : {1, 7, 33, 1024, 1100, 3072}) {
    for (const DType out : {DType::kF32, DType::kBf16}) {
      const int64_t rows = 13;
      Data x = Random(DType::kF32, rows, width, 1, 2), weight = Weight(Random(DType::kBf16, 1, width, 2));
      Data y(out, rows, width);
      Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = rows});
      const auto xs = x.Get(), ws = weight.Get();
      std::vector<double> expected;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i)
          squares += std::pow(double{xs[static_cast<size_t>(r * width + i)]}, 2);
        for (int64_t i = 0; i < width; ++i) {
          expected.push_back(xs[static_cast<size_t>(r * width + i)] /
                             std::sqrt(squares / static_cast<double>(width) + 1e-5) *
                             ws[static_cast<size_t>(i)]);
        }
      }
      ExpectNear(y.Get(), expected, Magnitude(expected), Tolerance(out, DType::kF32, 64),
                 fmt::format("{}", width));
    }
  }
}

TEST(EagerKernels, ElementwiseMatchesPlainArithmetic) {
  for (const int64_t width : {1, 33, 1030}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      const int64_t rows = 35;
      Data a = Random(dtype, rows, width, 1, 1, 4), b = Random(DType::kF32, rows, width, 2),
           y(dtype, rows, width, 3);
      const auto as = a.Get(), bs = b.Get();
      std::vector<double> sums, products, silus, size;
      for (size_t i = 0; i < as.size(); ++i) {
        sums.push_back(double{as[i]} + bs[i]);
        products.push_back(double{as[i]} * bs[i]);
        silus.push_back(as[i] / (1 + std::exp(-double{as[i]})));
        size.push_back(std::abs(as[i]) + std::abs(bs[i]));
      }
      const double tolerance = Tolerance(dtype, DType::kF32, 0);
      Launch("add", {&y, &a, &b}, {}, {.rows = rows});
      ExpectNear(y.Get(), sums, size, tolerance, "add");
      Launch("mul", {&y, &a, &b}, {}, {.rows = rows});
      ExpectNear(y.Get(), products, Magnitude(products), tolerance, "mul");
      Launch("silu", {&y, &a}, {}, {.rows = rows});
      ExpectNear(y.Get(), silus, Magnitude(silus), tolerance, "silu");
      Launch("copy", {&y, &a}, {}, {.rows = rows});
      EXPECT_EQ(y.Get(), as);
      Data last(dtype, 1, width);
      last.step_rows = false;
      Launch("last_row", {&last, &a}, {}, {.rows = rows});
      EXPECT_EQ(last.Get(), std::vector<float>(as.end() - width, as.end()));
      Launch("add", {&a, &a, &b}, {}, {.rows = rows});  // in place
      ExpectNear(a.Get(), sums, size, tolerance, "add in place");
    }
  }
}

TEST(EagerKernels, SiluOfExtremesIsFiniteOrPropagates) {
  const std::vector<float> values = {-1e30f, -200, -90, 0, 90, 200, 1e30f, NAN};
  Data x(DType::kF32, 1, 8), y(DType::kF32, 1, 8);
  x.Set(values);
  Launch("silu", {&y, &x}, {}, {});
  const auto ys = y.Get();
  for (size_t i : {1, 2}) EXPECT_NEAR(ys[i], 0, 1e-30);
  EXPECT_EQ(ys[3], 0);
  for (size_t i : {4, 5, 6}) EXPECT_EQ(ys[i], values[i]);
  EXPECT_TRUE(std::isnan(ys[7]));
}

TEST(EagerKernels, RotaryTurnsPairs) {
  const int64_t rows = 3, heads = 2, head_dim = 6, past = 4;
  Data x = Random(DType::kF32, rows, heads * head_dim, 1), y(DType::kF32, rows, heads * head_dim);
  Data table = Weight(Random(DType::kF32, 16, head_dim, 2));
  Launch("rotary", {&y, &x, &table}, {head_dim}, {.rows = rows, .past = past});
  const auto xs = x.Get(), ys = y.Get(), ts = table.Get();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t d = 0; d < 3; ++d) {
        const auto i = static_cast<size_t>((r * heads + h) * head_dim + d);
        const auto t = static_cast<size_t>((past + r) * head_dim + d);
        EXPECT_NEAR(ys[i], xs[i] * ts[t] - xs[i + 3] * ts[t + 3], 1e-5);
        EXPECT_NEAR(ys[i + 3], xs[i + 3] * ts[t] + xs[i] * ts[t + 3], 1e-5);
      }
    }
  }
}

TEST(EagerKernels, EmbeddingTakesTheRowsOfTheIds) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    Data table = Weight(Random(dtype, 11, 1025, 1)), y(DType::kF32, 3, 1025), ids(DType::kI32, 3, 1);
    const int32_t wanted[] = {10, 0, 10};
    std::memcpy(ids.bytes.data(), wanted, sizeof wanted);
    Launch("embedding", {&y, &ids, &table}, {}, {.rows = 3});
    const auto ys = y.Get(), ts = table.Get();
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t i = 0; i < 1025; ++i) {
        ASSERT_EQ(ys[static_cast<size_t>(r * 1025 + i)], ts[static_cast<size_t>(wanted[r] * 1025 + i)]);
      }
    }
  }
}

TEST(EagerKernels, SampleChoosesAsTheReferenceDoes) {
  const int64_t vocab = 333;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Data logits = Random(DType::kF32, 1, vocab, seed, 0, 3);
    if (seed % 5 == 0) {  // many equals
      auto values = logits.Get();
      for (float& value : values) value = std::round(value);
      values[7] = NAN;
      logits.Set(values);
    }
    ph_state state = {};
    state.seed = seed * uint64_t{0x9E3779B97F4A7C15};
    state.steps = static_cast<int32_t>(seed);
    state.temperature = seed % 4 == 0 ? 0 : 0.25f * static_cast<float>(seed % 7 + 1);
    state.top_p = seed % 3 == 0 ? 1 : 0.3f + 0.1f * static_cast<float>(seed % 6);
    state.top_k = seed % 2 == 0 ? 0 : static_cast<int32_t>(seed % 60);
    state.banned_count = static_cast<int32_t>(seed % 4);
    for (int i = 0; i < 4; ++i)
      state.banned[i] = (i == 3) ? 100000 : static_cast<int32_t>(seed + 50 * static_cast<uint32_t>(i));
    const int32_t expected = ir::SampleToken(logits.Get(), state);
    Data block(DType::kU8, 1, sizeof state);
    std::memcpy(block.bytes.data(), &state, sizeof state);
    Launch("sample", {&block, &logits}, {}, {});
    ph_state after;
    std::memcpy(&after, block.bytes.data(), sizeof after);
    EXPECT_EQ(after.token, expected);
    EXPECT_EQ(after.steps, state.steps + 1);
  }
}

TEST(EagerKernels, ProbeShowsRowsAndPassesThemOn) {
  Data x = Random(DType::kBf16, 3, 5, 1, 2), y(DType::kF32, 3, 5);
  std::vector<float> seen;
  TheModule().SetProbe([&](const float* values, int64_t rows, int64_t columns) {
    seen.assign(values, values + rows * columns);
  });
  Launch("probe", {&y, &x}, {}, {.rows = 3});
  TheModule().SetProbe(nullptr);
  EXPECT_EQ(seen, x.Get());
  EXPECT_EQ(y.Get(), x.Get());
}

TEST(EagerKernels, OneThreadGivesTheSameBits) {
  Data x = Random(DType::kF32, 64, 1500, 1), weight = Weight(Random(DType::kF32, 1, 1500, 2)),
       y(DType::kF32, 64, 1500);
  Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = 64});
  const auto all = y.Get();
  TheModule().SetThreads(1);
  Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = 64});
  TheModule().SetThreads(2);
  EXPECT_EQ(y.Get(), all);
}

}  // namespace
}  // namespace preheat::eager
#endif
