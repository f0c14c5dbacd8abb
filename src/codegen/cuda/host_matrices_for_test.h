// What the 32 lanes of a warp compute together in one tensor-core step or matrix load, with PTX's fragments.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "ldmatrix".
#pragma once

#include <array>
#include <cstdint>

namespace preheat::codegen::cuda {

// One lane's registers of MultiplyBf16: d[4], a[4], b[2].
struct MultiplyLane {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};
// d += a b. The card's own order of sums is not specified; here k ascends, in fp32.
void MultiplyBf16OfWarp(const std::array<MultiplyLane, 32>& lanes);

// One lane of LoadMatrices: where its four results go, and the row whose address it gives.
struct LoadMatricesLane {
  uint32_t* r;
  const void* row;
};
void LoadMatricesOfWarp(const std::array<LoadMatricesLane, 32>& lanes, bool transposed);

}  // namespace preheat::codegen::cuda
