// For tests of the module's kernels: operands of any type, a launch by name, and how near a result must be.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "eager/kernel_table.h"
#include "eager/module_for_test.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace preheat::eager {

using tensor::DType;

// A matrix in memory of any float type, with space between its rows.
struct Data {
  DType dtype;
  int64_t rows, columns, stride;
  std::vector<std::byte> bytes;
  bool step_rows = true;  // its rows are the step's

  Data(DType type, int64_t rows_, int64_t columns_, int64_t gap = 0)
      : dtype(type), rows(rows_), columns(columns_), stride(columns_ + gap) {
    bytes.resize(static_cast<size_t>(rows * stride) * tensor::Bytes(dtype), std::byte{0xff});
  }

  void Set(const std::vector<float>& values) {
    for (int64_t row = 0; row < rows; ++row) {
      const auto size = static_cast<size_t>(columns) * tensor::Bytes(dtype);
      tensor::StoreFloats({values.data() + row * columns, static_cast<size_t>(columns)}, dtype,
                          {bytes.data() + static_cast<size_t>(row * stride) * tensor::Bytes(dtype), size});
    }
  }
  std::vector<float> Get() const {
    std::vector<float> values;
    for (int64_t row = 0; row < rows; ++row) {
      const auto at = static_cast<size_t>(row * stride) * tensor::Bytes(dtype);
      const auto size = static_cast<size_t>(columns) * tensor::Bytes(dtype);
      const tensor::TensorView view(dtype, {columns}, std::span(bytes).subspan(at, size));
      for (int64_t i = 0; i < columns; ++i) values.push_back(view.At(i));
    }
    return values;
  }
};

inline Data Random(DType dtype, int64_t rows, int64_t columns, uint32_t seed, int64_t gap = 0,
                   float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (float& value : values) value = normal(random);
  Data data(dtype, rows, columns, gap);
  data.Set(values);
  return data;
}

inline Data Weight(Data data) {
  data.step_rows = false;
  return data;
}

struct Step {
  int64_t rows = 1, past = 0, capacity = 0;
};

inline void Launch(const std::string& name, std::vector<Data*> operands, std::vector<int64_t> numbers,
                   Step step) {
  std::vector<void*> pointers;
  std::vector<int64_t> constants;
  for (Data* data : operands) {
    pointers.push_back(data->bytes.data());
    for (const int64_t number : {static_cast<int64_t>(data->dtype), data->step_rows ? int64_t{0} : data->rows,
                                 data->columns, data->stride}) {
      constants.push_back(number);
    }
  }
  constants.insert(constants.end(), numbers.begin(), numbers.end());
  const ph_args args = {.operands = pointers.data(),
                        .constants = constants.data(),
                        .rows = step.rows,
                        .past = step.past,
                        .capacity = step.capacity};
  TheModule().Kernel(name)(&args, 0, 1, nullptr);
  TheModule().ThrowIfFailed();
}

inline int64_t Bits(float value) {
  return std::bit_cast<uint32_t>(value);
}

// Half a unit in the last place of the stored type, relative, and of f32 sums over `depth` products.
inline double Tolerance(DType out, DType math, int64_t depth) {
  const auto unit = [](DType dtype) {
    return dtype == DType::kBf16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-23;
  };
  return unit(out) + unit(DType::kF32) * static_cast<double>(depth + 8) +
         (math == DType::kBf16 ? 0x1p-20 : 0);
}

inline void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                       const std::vector<double>& magnitude, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    // 2^-25: half of the smallest f16.
    ASSERT_NEAR(actual[i], expected[i], tolerance * magnitude[i] + 0x1p-25) << what << " element " << i;
  }
}

inline std::vector<double> Magnitude(const std::vector<double>& values) {
  std::vector<double> magnitude;
  for (const double value : values) magnitude.push_back(std::abs(value));
  return magnitude;
}

}  // namespace preheat::eager
