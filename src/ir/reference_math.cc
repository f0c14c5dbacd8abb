#include "ir/reference_math.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::ir {
namespace {

using tensor::DType;
using tensor::TensorView;

// Eight partial sums, so that the compiler can keep them in vector registers.
template <typename A, typename B>
double Dot(const A* a, const B* b, int64_t size) {
  constexpr int64_t kLanes = 8;
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  double sum = 0;
  for (; i < size; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (double lane : sums) sum += lane;
  return sum;
}

std::vector<float> Widened(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.Elements()));
  tensor.ReadFloats(0, values);
  return values;
}

// exp(s - m) v summed over positions [begin, end) for one head: `sum` [head_dim], the maximum m, the
// denominator.
struct Partial {
  std::vector<double> sum;
  double maximum;
  double denominator;
};

Partial AttendTo(const float* q, std::span<const float> keys, std::span<const float> values,
                 const AttentionShape& shape, int64_t head, int64_t begin, int64_t end) {
  const int64_t stride = shape.kv_heads * shape.head_dim;
  const int64_t offset = head / (shape.heads / shape.kv_heads) * shape.head_dim;
  Partial partial{std::vector<double>(static_cast<size_t>(shape.head_dim)), -HUGE_VAL, 0};
  std::vector<double> scores(static_cast<size_t>(end - begin));
  for (int64_t position = begin; position < end; ++position) {
    double& score = scores[static_cast<size_t>(position - begin)];
    score = shape.scale * Dot(q, keys.data() + position * stride + offset, shape.head_dim);
    partial.maximum = std::max(partial.maximum, score);
  }
  for (int64_t position = begin; position < end; ++position) {
    const double weight = std::exp(scores[static_cast<size_t>(position - begin)] - partial.maximum);
    partial.denominator += weight;
    const float* value = values.data() + position * stride + offset;
    for (int64_t d = 0; d < shape.head_dim; ++d) partial.sum[static_cast<size_t>(d)] += weight * value[d];
  }
  return partial;
}

}  // namespace

void RoundTo(DType dtype, std::span<float> values) {
  if (dtype == DType::kBf16) {
    for (float& value : values) value = tensor::RoundToBf16(value);
  } else if (dtype == DType::kF16) {
    for (float& value : values) value = tensor::RoundToF16(value);
  } else {
    CHECK(dtype == DType::kF32);
  }
}

Matrix RmsNorm(const Matrix& x, const TensorView& weight, double eps) {
  const std::vector<float> scale = Widened(weight);
  Matrix y(x.rows, x.width);
  for (int64_t row = 0; row < x.rows; ++row) {
    const auto in = x.Row(row);
    const auto out = y.Row(row);
    const double mean = Dot(in.data(), in.data(), x.width) / static_cast<double>(x.width);
    const double factor = 1 / std::sqrt(mean + eps);
    for (size_t i = 0; i < in.size(); ++i) out[i] = static_cast<float>(in[i] * factor * scale[i]);
  }
  return y;
}

Matrix Linear(const Matrix& x, const TensorView& weight, const TensorView* bias) {
  const int64_t out = weight.shape()[0];
  Matrix y(x.rows, out);
  // Widened once each: the activations before the loops, a weight row before its products.
  const std::vector<double> a(x.data.begin(), x.data.end());
  std::vector<float> row_floats(static_cast<size_t>(x.width));
  std::vector<double> row(static_cast<size_t>(x.width));
  for (int64_t o = 0; o < out; ++o) {
    weight.ReadFloats(o * x.width, row_floats);
    std::copy(row_floats.begin(), row_floats.end(), row.begin());
    const double start = bias == nullptr ? 0.0 : static_cast<double>(bias->At(o));
    for (int64_t i = 0; i < x.rows; ++i) {
      y.data[static_cast<size_t>(i * out + o)] =
          static_cast<float>(Dot(a.data() + i * x.width, row.data(), x.width) + start);
    }
  }
  return y;
}

Matrix Add(const Matrix& a, const Matrix& b) {
  Matrix y = a;
  for (size_t i = 0; i < y.data.size(); ++i) y.data[i] += b.data[i];
  return y;
}

Matrix Mul(const Matrix& a, const Matrix& b) {
  Matrix y = a;
  for (size_t i = 0; i < y.data.size(); ++i) y.data[i] *= b.data[i];
  return y;
}

Matrix Silu(const Matrix& x) {
  Matrix y = x;
  for (float& value : y.data) value = static_cast<float>(value / (1 + std::exp(-static_cast<double>(value))));
  return y;
}

Matrix Rotate(const Matrix& x, const Rotary& rotary, int64_t head_dim, int64_t past) {
  Matrix y(x.rows, x.width);
  const size_t half = static_cast<size_t>(head_dim / 2);
  for (int64_t row = 0; row < x.rows; ++row) {
    for (size_t d = 0; d < half; ++d) {
      const double angle = static_cast<double>(static_cast<float>(past + row) * rotary.inv_freq[d]);
      const float cosine = static_cast<float>(std::cos(angle) * rotary.scale);
      const float sine = static_cast<float>(std::sin(angle) * rotary.scale);
      for (size_t head = 0; head < static_cast<size_t>(x.width); head += 2 * half) {
        const auto in = x.Row(row).subspan(head, 2 * half);
        const auto out = y.Row(row).subspan(head, 2 * half);
        const double low = in[d], high = in[d + half];
        out[d] = static_cast<float>(low * cosine - high * sine);
        out[d + half] = static_cast<float>(high * cosine + low * sine);
      }
    }
  }
  return y;
}

Matrix Attention(const Matrix& q, std::span<const float> keys, std::span<const float> values,
                 const AttentionShape& shape, int64_t past) {
  Matrix y(q.rows, q.width);
  for (int64_t row = 0; row < q.rows; ++row) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float* query = q.Row(row).data() + head * shape.head_dim;
      const Partial all = AttendTo(query, keys, values, shape, head, 0, past + row + 1);
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        y.Row(row)[static_cast<size_t>(head * shape.head_dim + d)] =
            static_cast<float>(all.sum[static_cast<size_t>(d)] / all.denominator);
      }
    }
  }
  return y;
}

Matrix SplitAttention(const Matrix& q, std::span<const float> keys, std::span<const float> values,
                      const AttentionShape& shape, int64_t past, int64_t block) {
  const int64_t positions = past + 1;
  const int64_t splits = (positions + block - 1) / block;
  Matrix y(splits * shape.heads, shape.head_dim + 2);
  for (int64_t split = 0; split < splits; ++split) {
    const int64_t end = std::min(positions, (split + 1) * block);
    for (int64_t head = 0; head < shape.heads; ++head) {
      const float* query = q.data.data() + head * shape.head_dim;
      const Partial part = AttendTo(query, keys, values, shape, head, split * block, end);
      const auto out = y.Row(split * shape.heads + head);
      std::transform(part.sum.begin(), part.sum.end(), out.begin(),
                     [](double sum) { return static_cast<float>(sum); });
      out[static_cast<size_t>(shape.head_dim)] = static_cast<float>(part.maximum);
      out[static_cast<size_t>(shape.head_dim + 1)] = static_cast<float>(part.denominator);
    }
  }
  return y;
}

Matrix MergeSplits(const Matrix& partial, int64_t heads) {
  const int64_t head_dim = partial.width - 2;
  Matrix y(1, heads * head_dim);
  for (int64_t head = 0; head < heads; ++head) {
    double maximum = -HUGE_VAL;
    for (int64_t row = head; row < partial.rows; row += heads) {
      maximum = std::max(maximum, static_cast<double>(partial.Row(row)[static_cast<size_t>(head_dim)]));
    }
    std::vector<double> sum(static_cast<size_t>(head_dim));
    double denominator = 0;
    for (int64_t row = head; row < partial.rows; row += heads) {
      const auto part = partial.Row(row);
      const double factor = std::exp(part[static_cast<size_t>(head_dim)] - maximum);
      denominator += factor * part[static_cast<size_t>(head_dim + 1)];
      for (size_t d = 0; d < sum.size(); ++d) sum[d] += factor * part[d];
    }
    for (size_t d = 0; d < sum.size(); ++d) {
      y.data[static_cast<size_t>(head * head_dim) + d] = static_cast<float>(sum[d] / denominator);
    }
  }
  return y;
}

}  // namespace preheat::ir
