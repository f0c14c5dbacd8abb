#include "codegen/cuda/host_matrices_for_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"

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

void OpenProducts::Issue(const PendingProduct& product) {
  const auto found = std::ranges::find(sums_, product.sums, &Sums::place);
  const auto count = static_cast<size_t>(product.columns / 2);
  if (found == sums_.end()) {
    sums_.push_back({product.sums, std::vector<float>(product.sums, product.sums + count), 1});
    std::fill_n(product.sums, count, std::numeric_limits<float>::quiet_NaN());
  } else {
    ++found->products;
  }
  open_.push_back(product);
}

void OpenProducts::Commit() {
  groups_.push_back(std::move(open_));
  open_.clear();
}

std::vector<PendingProduct> OpenProducts::Close(int open) {
  std::vector<PendingProduct> closed;
  while (static_cast<int>(groups_.size()) > open) {
    closed.insert(closed.end(), groups_.front().begin(), groups_.front().end());
    groups_.erase(groups_.begin());
  }
  return closed;
}

float* OpenProducts::Hidden(const float* sums) {
  return std::ranges::find(sums_, sums, &Sums::place)->values.data();
}

void OpenProducts::Done(const float* sums) {
  const auto found = std::ranges::find(sums_, sums, &Sums::place);
  CHECK(found != sums_.end());
  if (--found->products > 0) return;
  std::ranges::copy(found->values, found->place);
  sums_.erase(found);
}

namespace {

// Shared memory as a thread's product sees it.
struct SharedView {
  const SharedBuffer& shared;
  uint32_t fenced;
};

// Eight elements of a matrix, in the place that 128 bytes of swizzle give `plain`.
std::string ReadPiece(uint64_t plain, const SharedView& view, float (&elements)[8]) {
  const SharedBuffer& shared = view.shared;
  const uint64_t place = plain ^ ((plain >> 7 & 7) << 4);
  const std::byte* at = shared.data() + place;
  const auto problem = [&](std::string_view what) {
    return fmt::format("MultiplyMatrices: a row at {}: {}", shared.Name(at), what);
  };
  if (!shared.Contains(at, 16)) return problem("outside of the block's memory");
  if (shared.InFlight(at, 16)) return problem("a copy is in flight to it");
  if (shared.Landing(at) > view.fenced) return problem("no FenceCopies after the copy to it");
  uint16_t bits[8];
  std::memcpy(bits, at, 16);
  for (int i = 0; i < 8; ++i) elements[i] = LowBf16(bits[i]);
  return "";
}

// Rows first .. first + count - 1 of a matrix, 16 of k, as floats [k][row].
std::string ReadMatrix(uint64_t matrix, int first, int count, const SharedView& view, float* to) {
  for (int row = first; row < first + count; ++row) {
    for (int half = 0; half < 2; ++half) {
      float elements[8];
      const auto plain = matrix * 16 + static_cast<uint64_t>(row) * 128 + static_cast<uint64_t>(half) * 16;
      std::string problem = ReadPiece(plain, view, elements);
      if (!problem.empty()) return problem;
      for (int i = 0; i < 8; ++i) to[(half * 8 + i) * count + row - first] = elements[i];
    }
  }
  return "";
}

// The same of one whose `count` columns lie side by side.
std::string ReadTransposed(uint64_t matrix, int count, const SharedView& view, float* to) {
  const uint64_t first = (matrix & 0xffffffff) * 16, box_bytes = (matrix >> 32) * 16;
  for (int k = 0; k < 16; ++k) {
    for (int column = 0; column < count; column += 8) {
      float elements[8];
      const auto plain = first + static_cast<uint64_t>(column / 64) * box_bytes +
                         static_cast<uint64_t>(k * 128 + column % 64 * 2);
      std::string problem = ReadPiece(plain, view, elements);
      if (!problem.empty()) return problem;
      std::copy_n(elements, 8, to + k * count + column);
    }
  }
  return "";
}

// As ReadMatrix, of a warp's fragments.
void ReadFragments(const std::array<ProductLane, 32>& lanes, float* to) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const uint32_t pair = lanes[static_cast<size_t>(lane)].fragment[i];
      const int row = lane / 4 + i % 2 * 8, k = lane % 4 * 2 + i / 2 * 8;
      to[k * 16 + row] = LowBf16(pair);
      to[(k + 1) * 16 + row] = HighBf16(pair);
    }
  }
}

}  // namespace

std::string MultiplyMatricesOfWarp(const PendingProduct& product, int warp_in_group,
                                   const SharedBuffer& shared, const std::array<ProductLane, 32>& lanes) {
  constexpr int kRows = 16, kDepth = 16, kMostColumns = 256;
  CHECK(product.columns <= kMostColumns);
  float a[kDepth * kRows], b[kDepth * kMostColumns];
  const SharedView view = {shared, product.fenced};
  std::string problem;
  if (product.fragment) {
    ReadFragments(lanes, a);
  } else {
    problem = ReadMatrix(product.a, warp_in_group * kRows, kRows, view, a);
  }
  if (problem.empty()) {
    problem = product.transposed ? ReadTransposed(product.b, product.columns, view, b)
                                 : ReadMatrix(product.b, 0, product.columns, view, b);
  }
  if (!problem.empty()) return problem;
  for (int row = 0; row < kRows; ++row) {
    float totals[kMostColumns] = {};
    const auto element = [&](int column) -> float& {
      const ProductLane& lane = lanes[static_cast<size_t>(row % 8 * 4 + column % 8 / 2)];
      return lane.sums[column / 8 * 4 + row / 8 * 2 + column % 2];
    };
    for (int column = 0; product.add && column < product.columns; ++column) totals[column] = element(column);
    for (int k = 0; k < kDepth; ++k) {
      for (int column = 0; column < product.columns; ++column) {
        totals[column] += a[k * kRows + row] * b[k * product.columns + column];
      }
    }
    for (int column = 0; column < product.columns; ++column) element(column) = totals[column];
  }
  return "";
}

}  // namespace preheat::codegen::cuda
