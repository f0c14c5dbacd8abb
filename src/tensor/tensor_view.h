// A tensor that somebody else owns: type, shape, bytes. The bytes may start at any address: a safetensors
// file promises no alignment beyond what its writer chose, so elements are read with memcpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace preheat::tensor {

class TensorView {
 public:
  TensorView() = default;
  // REQUIRES: bytes.size() == shape.Elements() * Bytes(dtype); CHECKed.
  TensorView(DType dtype, Shape shape, std::span<const std::byte> bytes);

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::span<const std::byte> bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }
  int64_t Elements() const { return shape_.Elements(); }

  // Element number `index` in row-major order, as a float. REQUIRES: 0 <= index < Elements().
  float At(int64_t index) const;
  // All elements from `first` on, as floats, into `out`. REQUIRES: they exist.
  void ReadFloats(int64_t first, std::span<float> out) const;
  // Row-major rows [first, first + count) of the outermost axis. REQUIRES: rank >= 1, rows exist.
  TensorView Rows(int64_t first, int64_t count) const;

 private:
  DType dtype_ = DType::kF32;
  Shape shape_{0};
  std::span<const std::byte> bytes_;
};

// Stores `values` as `dtype` (rounded to nearest even) into `out`. REQUIRES: a float type; sizes match.
void StoreFloats(std::span<const float> values, DType dtype, std::span<std::byte> out);

}  // namespace preheat::tensor
