#include "tensor/tensor_view.h"

#include <utility>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::tensor {
namespace {

template <typename T>
T Load(const std::byte* address) {
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

float LoadFloat(DType dtype, const std::byte* base, int64_t index) {
  const std::byte* address = base + static_cast<size_t>(index) * Bytes(dtype);
  switch (dtype) {
    case DType::kF32:
      return Load<float>(address);
    case DType::kBf16:
      return Bf16ToFloat(Load<uint16_t>(address));
    case DType::kF16:
      return F16ToFloat(Load<uint16_t>(address));
    case DType::kI32:
      return static_cast<float>(Load<int32_t>(address));
    case DType::kI64:
      return static_cast<float>(Load<int64_t>(address));
    case DType::kU8:
    case DType::kBool:
      return static_cast<float>(Load<uint8_t>(address));
  }
  return 0;
}

}  // namespace

TensorView::TensorView(DType dtype, Shape shape, std::span<const std::byte> bytes)
    : dtype_(dtype), shape_(std::move(shape)), bytes_(bytes) {
  CHECK(static_cast<size_t>(shape_.Elements()) * Bytes(dtype_) == bytes_.size());
}

float TensorView::At(int64_t index) const {
  return LoadFloat(dtype_, bytes_.data(), index);
}

void TensorView::ReadFloats(int64_t first, std::span<float> out) const {
  const std::byte* base = bytes_.data() + static_cast<size_t>(first) * Bytes(dtype_);
  if (dtype_ == DType::kF32) {
    std::memcpy(out.data(), base, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] = LoadFloat(dtype_, base, static_cast<int64_t>(i));
}

TensorView TensorView::Rows(int64_t first, int64_t count) const {
  CHECK(shape_.rank() >= 1 && first >= 0 && count >= 0 && first + count <= shape_[0]);
  std::vector<int64_t> extents = shape_.extents();
  const size_t row_bytes = shape_[0] == 0 ? 0 : bytes_.size() / static_cast<size_t>(shape_[0]);
  extents[0] = count;
  return TensorView(
      dtype_, Shape(std::move(extents)),
      bytes_.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(count) * row_bytes));
}

void StoreFloats(std::span<const float> values, DType dtype, std::span<std::byte> out) {
  CHECK(IsFloat(dtype) && out.size() == values.size() * Bytes(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(out.data(), values.data(), out.size());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == DType::kBf16 ? FloatToBf16(values[i]) : FloatToF16(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, sizeof(bits));
  }
}

}  // namespace preheat::tensor
