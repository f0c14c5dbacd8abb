// bfloat16: the upper half of a float32. Rounds to nearest, ties to even; denormals and infinities as they
// are; a NaN becomes a quiet NaN that keeps its sign and upper payload. AVX512-BF16 (vcvtneps2bf16) gives the
// same except that it takes denormals for zero.
#pragma once

#include <bit>
#include <cstdint>

namespace preheat::tensor {

constexpr float Bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

constexpr uint16_t FloatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  const uint32_t round_up = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>((bits + round_up) >> 16);
}

// The nearest bfloat16, as a float.
constexpr float RoundToBf16(float value) {
  return Bf16ToFloat(FloatToBf16(value));
}

}  // namespace preheat::tensor
