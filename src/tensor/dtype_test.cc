#include "tensor/dtype.h"

#include <gtest/gtest.h>

namespace preheat::tensor {
namespace {

constexpr DType kAll[] = {DType::kF32, DType::kBf16, DType::kF16, DType::kI32,
                          DType::kI64, DType::kU8,   DType::kBool};

TEST(DType, EveryNameParsesBack) {
  for (const DType dtype : kAll) {
    EXPECT_EQ(ParseDType(Name(dtype)), dtype);
    EXPECT_EQ(ParseDType(ShortName(dtype)), dtype);
    EXPECT_EQ(ParseSafetensorsDType(SafetensorsName(dtype)), dtype);
  }
}

TEST(DType, TakesTheSpellingsOfConfigsAndTheCommandLine) {
  EXPECT_EQ(ParseDType("torch.bfloat16"), DType::kBf16);
  EXPECT_EQ(ParseDType("fp16"), DType::kF16);
  EXPECT_EQ(ParseDType("half"), DType::kF16);
  EXPECT_EQ(ParseDType("fp32"), DType::kF32);
  EXPECT_EQ(ParseDType("float"), DType::kF32);
  EXPECT_EQ(ParseDType("float8_e4m3fn"), std::nullopt);
  EXPECT_EQ(ParseSafetensorsDType("bfloat16"), std::nullopt);
}

TEST(DType, SizesAreThoseOfTheFormats) {
  EXPECT_EQ(Bytes(DType::kF32), 4u);
  EXPECT_EQ(Bytes(DType::kBf16), 2u);
  EXPECT_EQ(Bytes(DType::kI64), 8u);
  EXPECT_EQ(Bytes(DType::kBool), 1u);
}

}  // namespace
}  // namespace preheat::tensor
