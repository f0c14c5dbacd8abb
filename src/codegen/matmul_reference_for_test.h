// For tests: a plain matmul in double, how far a right implementation may be from it, and the check.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "codegen/matmul_for_test.h"

namespace preheat::codegen {

inline constexpr double kEpsF32 = 0x1p-24;
inline constexpr double kEpsBf16 = 0x1p-9;

inline double Rounding(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return kEpsBf16;
    case DType::kF16:
      return 0x1p-12;
    default:
      return kEpsF32;
  }
}

// A value and how far a right implementation may be from it.
struct Bounded {
  double value = 0;
  double error = 0;
};

struct Reference {
  const MatmulData& d;

  std::vector<double> Multiplicands(int64_t row) const {
    const MatmulCase& c = d.c;
    std::vector<double> a(static_cast<size_t>(c.k));
    double scale_later = 1;  // what was handed on is rounded before it is scaled
    if (c.prologue == "merge") {
      const int64_t heads = c.k / c.head_dim;
      for (int64_t h = 0; h < heads; ++h) {
        double largest = -1e30, total = 0;
        for (int64_t s = 0; s < d.Splits(); ++s)
          largest = std::max(largest, d.x.At(s * heads + h, c.head_dim));
        for (int64_t s = 0; s < d.Splits(); ++s) {
          const double weight = std::exp(d.x.At(s * heads + h, c.head_dim) - largest);
          total += weight * d.x.At(s * heads + h, c.head_dim + 1);
          for (int64_t i = 0; i < c.head_dim; ++i) {
            a[static_cast<size_t>(h * c.head_dim + i)] += weight * d.x.At(s * heads + h, i);
          }
        }
        for (int64_t i = 0; i < c.head_dim; ++i) a[static_cast<size_t>(h * c.head_dim + i)] /= total;
      }
    } else {
      double squares = 0;
      for (int64_t i = 0; i < c.k; ++i) squares += d.x.At(row, i) * d.x.At(row, i);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(c.k) + 1e-5);
      for (int64_t i = 0; i < c.k; ++i) {
        const double x = d.x.At(row, i);
        a[static_cast<size_t>(i)] = c.prologue != "rms_norm" ? x
                                    : d.handed.empty()       ? x * scale * d.norm.At(0, i)
                                                             : x * d.norm.At(0, i);
      }
      if (!d.handed.empty() && c.prologue == "rms_norm") scale_later = scale;
    }
    for (double& v : a) {
      v = c.math == "bf16" ? tensor::RoundToBf16(static_cast<float>(v)) : static_cast<float>(v);
      v *= scale_later;
    }
    return a;
  }

  Bounded Product(const std::vector<double>& a, size_t part, int64_t column) const {
    double sum = 0, magnitude = 0, largest = 0;
    for (int64_t i = 0; i < d.c.k; ++i) {
      const double product = a[static_cast<size_t>(i)] * d.weights[part].At(column, i);
      sum += product;
      magnitude += std::abs(product);
      largest = std::max(largest, std::abs(product));
    }
    // Each addition rounds. Where a was computed, an element near the middle of two bf16 may be rounded to
    // the other: rare enough that no row has more than three.
    double error = (static_cast<double>(d.c.k) * 2 + 8) * kEpsF32 * magnitude + 1e-30;
    if (d.c.prologue != "none") error += 16 * kEpsF32 * magnitude;
    if (d.c.prologue != "none" && d.c.math == "bf16") error += 3 * 2 * kEpsBf16 * largest;
    if (d.c.bias) sum += d.biases[part].At(0, column);
    return {sum, error};
  }

  static Bounded Turn(const Bounded& x, const Bounded& y, double cos, double sin) {
    const double value = x.value * cos + y.value * sin;
    return {value, std::abs(cos) * x.error + std::abs(sin) * y.error +
                       4 * kEpsF32 * (std::abs(x.value * cos) + std::abs(y.value * sin))};
  }
  // Rotary of column `column` of a part at the row's position.
  Bounded Rotated(const std::vector<double>& a, size_t part, int64_t row, int64_t column) const {
    const int64_t half = d.c.head_dim / 2, in_head = column % d.c.head_dim;
    const int64_t turn = in_head % half;
    const double cos = d.rotary.At(d.past + row, turn), sin = d.rotary.At(d.past + row, half + turn);
    const Bounded y = Product(a, part, column);
    const Bounded other = Product(a, part, in_head < half ? column + half : column - half);
    return Turn(y, other, cos, in_head < half ? -sin : sin);
  }

  Bounded Output(const std::vector<double>& a, int64_t row, int64_t column) const {
    const Bounded y = Product(a, 0, column);
    if (d.c.epilogue == "add") return {y.value + d.residual.At(row, column), y.error};
    if (d.c.epilogue == "rotary_append") return Rotated(a, 0, row, column);
    if (d.c.epilogue == "silu_mul") {
      const Bounded up = Product(a, 1, column);
      const double silu = y.value / (1 + std::exp(-y.value));
      return {silu * up.value, 1.1 * y.error * std::abs(up.value) + (std::abs(silu) + y.error) * up.error +
                                   8 * kEpsF32 * std::abs(silu * up.value)};
    }
    return y;
  }
};

inline void ExpectNear(const Bounded& expected, double actual, DType dtype, const std::string& where) {
  const double bound = expected.error * (1 + kEpsBf16) + 2 * Rounding(dtype) * std::abs(expected.value) +
                       (dtype == DType::kF16 ? 1e-7 : 0);
  ASSERT_LE(std::abs(actual - expected.value), bound)
      << where << ": " << actual << " instead of " << expected.value;  // also false for NaN
}

// The KV cache after a run: rows past .. past + rows - 1 hold what was appended, all else is still NaN.
inline void CheckCache(const MatmulData& d, const Target& target, const Reference& reference) {
  const CacheShape shape = CacheShapeOf(d.g.graph[d.g.cache].type, target);
  for (int64_t position = 0; position < d.capacity; ++position) {
    const int64_t row = position - d.past;
    const bool valid = row >= 0 && row < d.rows;
    const std::vector<double> a = valid ? reference.Multiplicands(row) : std::vector<double>();
    for (int64_t column = 0; column < d.c.columns[1]; ++column) {
      const int64_t head = column / shape.head_dim, i = column % shape.head_dim;
      const double key =
          ReadElement(d.keys.bytes.data(), d.c.cache, KeyOffsetForTest(shape, d.capacity, head, position, i));
      const double value = ReadElement(d.values.bytes.data(), d.c.cache,
                                       ValueOffsetForTest(shape, d.capacity, head, position, i));
      if (!valid) {
        ASSERT_TRUE(std::isnan(key) && std::isnan(value)) << "position " << position << " was written";
        continue;
      }
      const std::string where = "position " + std::to_string(position) + " column " + std::to_string(column);
      ExpectNear(reference.Rotated(a, 1, row, column), key, d.c.cache, "key " + where);
      ExpectNear(reference.Product(a, 2, column), value, d.c.cache, "value " + where);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

inline void CheckOutput(const MatmulData& d, const Reference& reference) {
  for (int64_t row = 0; row < d.max_rows; ++row) {
    const bool valid = row < d.rows;
    const std::vector<double> a = valid ? reference.Multiplicands(row) : std::vector<double>();
    for (int64_t column = 0; column < d.out.stride; ++column) {
      const double y = d.out.At(row, column);
      const std::string where = "row " + std::to_string(row) + " column " + std::to_string(column);
      if (!valid || column >= d.out.columns) {
        ASSERT_TRUE(std::isnan(y)) << where << " was written";
      } else {
        ExpectNear(reference.Output(a, row, column), y, d.c.out, where);
      }
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

}  // namespace preheat::codegen
