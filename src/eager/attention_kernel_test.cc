// The module's attention and append against a plain softmax.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "eager/kernels_for_test.h"

#ifndef PREHEAT_EAGER_WITHOUT_MODULE
namespace preheat::eager {
namespace {

struct Heads {
  int64_t heads, kv_heads, head_dim, rows, past;
};

class EagerAttention : public testing::TestWithParam<Heads> {};

TEST_P(EagerAttention, MatchesPlainSoftmaxAndReadsNothingUnwritten) {
  const auto [heads, kv_heads_bound, head_dim_bound, rows, past] = GetParam();
  // In clang 14 a lambda captures variables only.
  const int64_t kv_heads = kv_heads_bound;
  const int64_t head_dim = head_dim_bound;
  const int64_t capacity = past + rows + 5;
  const int64_t positions = past + rows;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Data q = Random(dtype, rows, heads * head_dim, 1, 2), y(dtype, rows, heads * head_dim);
    // [kv_heads, capacity, head_dim]; what was not appended is NaN.
    Data keys(dtype, kv_heads * capacity, head_dim), values(dtype, kv_heads * capacity, head_dim);
    std::vector<Data> appended;
    for (uint32_t i = 0; i < 2; ++i)
      appended.push_back(Random(dtype, positions, kv_heads * head_dim, 10 + i));
    const auto append = [&](int64_t first, int64_t count) {
      Data k(dtype, count, kv_heads * head_dim), v(dtype, count, kv_heads * head_dim);
      const auto row_bytes = static_cast<size_t>(kv_heads * head_dim) * tensor::Bytes(dtype);
      std::copy_n(appended[0].bytes.begin() + first * static_cast<int64_t>(row_bytes), k.bytes.size(),
                  k.bytes.begin());
      std::copy_n(appended[1].bytes.begin() + first * static_cast<int64_t>(row_bytes), v.bytes.size(),
                  v.bytes.begin());
      Launch("append", {&keys, &values, &k, &v}, {kv_heads, head_dim},
             {.rows = count, .past = first, .capacity = capacity});
    };
    if (past > 0) append(0, past);
    append(past, rows);
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    Launch("attention", {&y, &q, &keys, &values}, {heads, kv_heads, head_dim, Bits(scale)},
           {.rows = rows, .past = past, .capacity = capacity});

    const auto qs = q.Get(), ks = appended[0].Get(), vs = appended[1].Get();
    const auto at = [](const std::vector<float>& data, int64_t i) {
      return double{data[static_cast<size_t>(i)]};
    };
    std::vector<double> expected, magnitude;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t kv = h / (heads / kv_heads);
        std::vector<double> weights;
        double total = 0;
        for (int64_t p = 0; p <= past + r; ++p) {
          double score = 0;
          for (int64_t d = 0; d < head_dim; ++d) {
            score += at(qs, (r * heads + h) * head_dim + d) * at(ks, (p * kv_heads + kv) * head_dim + d);
          }
          weights.push_back(std::exp(score * scale));
          total += weights.back();
        }
        for (int64_t d = 0; d < head_dim; ++d) {
          double sum = 0, size = 0;
          for (size_t p = 0; p < weights.size(); ++p) {
            const double v = at(vs, (static_cast<int64_t>(p) * kv_heads + kv) * head_dim + d);
            sum += weights[p] / total * v;
            size += weights[p] / total * std::abs(v);
          }
          expected.push_back(sum);
          magnitude.push_back(size);
        }
      }
    }
    ExpectNear(y.Get(), expected, magnitude, Tolerance(dtype, DType::kF32, positions), "attention");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EagerAttention,
                         testing::Values(Heads{1, 1, 2, 1, 0}, Heads{4, 4, 64, 5, 0}, Heads{6, 2, 64, 1, 130},
                                         Heads{24, 8, 128, 1, 64}, Heads{3, 1, 80, 129, 0},
                                         Heads{4, 1, 34, 70, 63}, Heads{8, 2, 128, 64, 1},
                                         Heads{16, 1, 8, 9, 200}));

}  // namespace
}  // namespace preheat::eager
#endif
