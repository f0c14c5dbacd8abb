// A launch's operands as the module's kernels see them, decoded from the descriptors of kernel_table.h; and
// moving rows of any float type to and from floats.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "abi/kernel_abi.h"
#include "eager/kernel_table.h"
#include "eager/module/loops.h"
#include "tensor/dtype.h"
#include "tensor/f16.h"

namespace preheat::eager {

struct Matrix {
  std::byte* data = nullptr;
  tensor::DType dtype = tensor::DType::kF32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // elements

  std::byte* At(int64_t row, int64_t column = 0) const {
    return data + (row * stride + column) * static_cast<int64_t>(tensor::Bytes(dtype));
  }
  bool IsFloats() const { return dtype == tensor::DType::kF32; }
  float* Floats(int64_t row) const { return reinterpret_cast<float*>(At(row)); }
};

inline Matrix Operand(const ph_args& args, int index) {
  const int64_t* numbers = args.constants + index * kDescriptorNumbers;
  return {.data = static_cast<std::byte*>(args.operands[index]),
          .dtype = static_cast<tensor::DType>(numbers[0]),
          .rows = numbers[1] == 0 ? args.rows : numbers[1],
          .columns = numbers[2],
          .stride = numbers[3]};
}

// Number `index` after the descriptors of `operands` operands.
inline int64_t Own(const ph_args& args, int operands, int index) {
  return args.constants[operands * kDescriptorNumbers + index];
}
inline float OwnReal(const ph_args& args, int operands, int index) {
  return std::bit_cast<float>(static_cast<uint32_t>(Own(args, operands, index)));
}

inline void LoadRow(const Loops& loops, float* out, const std::byte* in, tensor::DType dtype, int64_t count) {
  const auto* halves = reinterpret_cast<const uint16_t*>(in);
  if (dtype == tensor::DType::kBf16) return loops.load_bf16(out, halves, count);
  if (dtype == tensor::DType::kF32) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) out[i] = tensor::F16ToFloat(halves[i]);
}

inline void StoreRow(const Loops& loops, std::byte* out, tensor::DType dtype, const float* in,
                     int64_t count) {
  auto* halves = reinterpret_cast<uint16_t*>(out);
  if (dtype == tensor::DType::kBf16) return loops.store_bf16(halves, in, count);
  if (dtype == tensor::DType::kF32) {
    std::memcpy(out, in, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) halves[i] = tensor::FloatToF16(in[i]);
}

}  // namespace preheat::eager
