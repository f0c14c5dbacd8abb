// The arithmetic of the reference interpreter: each function is one operation of ops.def on matrices of fp32,
// summed in double and rounded to fp32 once at its end. Fused operations are made of the same functions, so
// that fusing does not change a bit. Plain code for one thread; row-major.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ir/graph.h"
#include "tensor/tensor_view.h"

namespace preheat::ir {

struct Matrix {
  int64_t rows = 0;
  int64_t width = 0;
  std::vector<float> data;  // [rows, width]

  Matrix() = default;
  Matrix(int64_t rows_in, int64_t width_in)
      : rows(rows_in), width(width_in), data(static_cast<size_t>(rows_in * width_in)) {}
  std::span<float> Row(int64_t row) { return {data.data() + row * width, static_cast<size_t>(width)}; }
  std::span<const float> Row(int64_t row) const {
    return {data.data() + row * width, static_cast<size_t>(width)};
  }
};

// Rounds every value to `dtype`, a float type.
void RoundTo(tensor::DType dtype, std::span<float> values);

// x / sqrt(mean(x^2) + eps) * weight.
Matrix RmsNorm(const Matrix& x, const tensor::TensorView& weight, double eps);
// x weight^T + bias; `bias` may be null. weight: [out, in].
Matrix Linear(const Matrix& x, const tensor::TensorView& weight, const tensor::TensorView* bias);
Matrix Add(const Matrix& a, const Matrix& b);
Matrix Mul(const Matrix& a, const Matrix& b);
Matrix Silu(const Matrix& x);
// Row i stands at position past + i. The angle is rounded to fp32 before its sine is taken, as transformers
// does.
Matrix Rotate(const Matrix& x, const Rotary& rotary, int64_t head_dim, int64_t past);

struct AttentionShape {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  double scale;
};
// Causal attention of rows that stand at past, past + 1, ...; keys, values: [positions, kv_heads * head_dim].
Matrix Attention(const Matrix& q, std::span<const float> keys, std::span<const float> values,
                 const AttentionShape& shape, int64_t past);
// Of one row at position `past`: [splits * heads, head_dim + 2], a partial sum, its maximum and its
// denominator.
Matrix SplitAttention(const Matrix& q, std::span<const float> keys, std::span<const float> values,
                      const AttentionShape& shape, int64_t past, int64_t block);
// What Attention would have given, from the partial sums: [1, heads * head_dim].
Matrix MergeSplits(const Matrix& partial, int64_t heads);

}  // namespace preheat::ir
