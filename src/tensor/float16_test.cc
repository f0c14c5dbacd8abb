// bf16.h and f16.h against a definition: the nearest representable value, ties to the even mantissa.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::tensor {
namespace {

static_assert(FloatToBf16(1.0f) == 0x3f80 && Bf16ToFloat(0x3f80) == 1.0f, "usable at compile time");
static_assert(FloatToF16(1.0f) == 0x3c00 && F16ToFloat(0x3c00) == 1.0f, "usable at compile time");

constexpr float kInf = std::numeric_limits<float>::infinity();

// All magnitudes of a 16-bit format in order: between each two neighbours, below, at and above the midpoint.
template <typename ToFloat, typename FromFloat>
void CheckRounding(uint16_t infinity, ToFloat to_float, FromFloat from_float) {
  for (uint32_t bits = 0; bits + 1 < infinity; ++bits) {
    const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
    const double a = to_float(low), b = to_float(high);
    ASSERT_LT(a, b);
    ASSERT_EQ(from_float(static_cast<float>(a)), low);
    const double middle = (a + b) / 2;
    const auto tie = static_cast<float>(middle);
    if (static_cast<double>(tie) != middle) continue;  // only below float's own denormals
    ASSERT_EQ(from_float(tie), (low & 1) == 0 ? low : high) << bits;
    ASSERT_EQ(from_float(std::nextafter(tie, 0.0f)), low) << bits;
    ASSERT_EQ(from_float(std::nextafter(tie, kInf)), high) << bits;
    ASSERT_EQ(from_float(-tie), ((low & 1) == 0 ? low : high) | 0x8000) << bits;
  }
}

TEST(Bf16, RoundsToNearestEvenEverywhere) {
  CheckRounding(0x7f80, Bf16ToFloat, FloatToBf16);
}
TEST(F16, RoundsToNearestEvenEverywhere) {
  CheckRounding(0x7c00, F16ToFloat, FloatToF16);
}

TEST(Bf16, KeepsInfinityAndNan) {
  EXPECT_EQ(FloatToBf16(kInf), 0x7f80);
  EXPECT_EQ(FloatToBf16(-kInf), 0xff80);
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7f80);
  // A NaN whose payload is in the lower half only must not become infinity.
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x7f800001u)), 0x7fc0);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0xffa00000u)), 0xffe0);
}

TEST(F16, KeepsInfinityAndNan) {
  EXPECT_EQ(FloatToF16(65504.0f), 0x7bff);
  EXPECT_EQ(FloatToF16(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToF16(-kInf), 0xfc00);
  EXPECT_EQ(FloatToF16(std::bit_cast<float>(0x7f800001u)), 0x7e00);
  EXPECT_TRUE(std::isnan(F16ToFloat(0x7c01)));
  EXPECT_EQ(std::bit_cast<uint32_t>(F16ToFloat(0xfd55)), 0xffeaa000u);
}

TEST(F16, SmallestValuesAndZero) {
  EXPECT_EQ(F16ToFloat(0x0001), std::ldexp(1.0f, -24));
  EXPECT_EQ(FloatToF16(std::ldexp(1.0f, -25)), 0x0000);  // a tie: zero is even
  EXPECT_EQ(FloatToF16(std::nextafter(std::ldexp(1.0f, -25), 1.0f)), 0x0001);
  EXPECT_EQ(FloatToF16(-0.0f), 0x8000);
  EXPECT_EQ(FloatToF16(std::numeric_limits<float>::denorm_min()), 0x0000);
}

TEST(F16, EveryPatternComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const bool nan = (bits & 0x7fff) > 0x7c00;
    EXPECT_EQ(FloatToF16(F16ToFloat(half)), nan ? half | 0x0200 : half);
    EXPECT_EQ(FloatToBf16(Bf16ToFloat(half)), (bits & 0x7fff) > 0x7f80 ? half | 0x0040 : half);
  }
}

}  // namespace
}  // namespace preheat::tensor
