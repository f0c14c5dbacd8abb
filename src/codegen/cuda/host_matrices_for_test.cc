#include "codegen/cuda/host_matrices_for_test.h"

#include <cstring>

namespace preheat::codegen::cuda {
namespace {

float LowBf16(uint32_t pair) {
  const uint32_t bits = pair << 16;
  float x = 0;
  std::memcpy(&x, &bits, 4);
  return x;
}

float HighBf16(uint32_t pair) {
  return LowBf16(pair >> 16);
}

}  // namespace

void MultiplyBf16OfWarp(const std::array<MultiplyLane, 32>& lanes) {
  float a[16][16];  // [row][k]
  float b[16][8];   // [k][column]
  float d[16][8];   // [row][column]
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {  // rows group, group + 8; then the same for k + 8
      const int row = group + i % 2 * 8;
      const int k = pair + i / 2 * 8;
      a[row][k] = LowBf16(lanes[lane].a[i]);
      a[row][k + 1] = HighBf16(lanes[lane].a[i]);
    }
    for (int i = 0; i < 4; ++i) d[group + i / 2 * 8][pair + i % 2] = lanes[lane].d[i];
    for (int i = 0; i < 2; ++i) {
      b[pair + i * 8][group] = LowBf16(lanes[lane].b[i]);
      b[pair + i * 8 + 1][group] = HighBf16(lanes[lane].b[i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) lanes[lane].d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

void LoadMatricesOfWarp(const std::array<LoadMatricesLane, 32>& lanes, bool transposed) {
  uint16_t elements[4][8][8];
  for (int lane = 0; lane < 32; ++lane) std::memcpy(elements[lane / 8][lane % 8], lanes[lane].row, 16);
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4;
    const int pair = lane % 4 * 2;
    for (int matrix = 0; matrix < 4; ++matrix) {
      const auto& from = elements[matrix];
      const uint32_t low = transposed ? from[pair][group] : from[group][pair];
      const uint32_t high = transposed ? from[pair + 1][group] : from[group][pair + 1];
      lanes[lane].r[matrix] = low | high << 16;
    }
  }
}

}  // namespace preheat::codegen::cuda
