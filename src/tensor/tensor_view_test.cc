#include "tensor/tensor_view.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace preheat::tensor {
namespace {

TEST(Shape, CountsAndPrints) {
  EXPECT_EQ((Shape{2, 3}).Elements(), 6);
  EXPECT_EQ(Shape().Elements(), 1);
  EXPECT_EQ((Shape{2, 0}).Elements(), 0);
  EXPECT_EQ((Shape{2, 3}).ToString(), "[2, 3]");
  EXPECT_EQ(Shape().ToString(), "[]");
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
}

TEST(TensorView, ReadsElementsAtAnyAddress) {
  std::array<std::byte, 13> bytes{};
  const std::array<float, 3> values = {1.5f, -2.0f, 0.25f};
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    const std::span<std::byte> place = std::span(bytes).subspan(1, 3 * Bytes(dtype));
    StoreFloats(values, dtype, place);
    const TensorView view(dtype, {3}, place);
    EXPECT_EQ(view.At(0), 1.5f);
    EXPECT_EQ(view.At(2), 0.25f);
    std::array<float, 2> tail{};
    view.ReadFloats(1, tail);
    EXPECT_EQ(tail, (std::array<float, 2>{-2.0f, 0.25f}));
  }
}

TEST(TensorView, ReadsIntegers) {
  const std::array<int64_t, 2> values = {-7, 1 << 20};
  const TensorView view(DType::kI64, {2}, std::as_bytes(std::span(values)));
  EXPECT_EQ(view.At(0), -7.0f);
  EXPECT_EQ(view.At(1), 1048576.0f);
}

TEST(TensorView, RowsAreAPartOfTheSameBytes) {
  const std::array<float, 6> values = {0, 1, 2, 3, 4, 5};
  const TensorView view(DType::kF32, {3, 2}, std::as_bytes(std::span(values)));
  const TensorView rows = view.Rows(1, 2);
  EXPECT_EQ(rows.shape(), (Shape{2, 2}));
  EXPECT_EQ(rows.data(), view.data() + 8);
  EXPECT_EQ(rows.At(3), 5.0f);
  EXPECT_EQ(view.Rows(3, 0).Elements(), 0);
}

TEST(TensorViewDeathTest, SizeAndShapeMustAgree) {
  const std::array<std::byte, 4> bytes{};
  EXPECT_DEATH(TensorView(DType::kF32, {2}, bytes), "shape_");
}

}  // namespace
}  // namespace preheat::tensor
