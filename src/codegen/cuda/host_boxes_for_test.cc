#include "codegen/cuda/host_boxes_for_test.h"

#include <algorithm>
#include <cstring>

namespace preheat::codegen::cuda {
namespace {

constexpr uint64_t kMark = 0x7e57b0c5a11ed0;

// The rows of a box, each where it begins in the tensor and how many of its elements are inside: none where
// the row is not.
template <typename Take>
void ForEachRow(const HostBox& box, Take take) {
  const HostTensorMap& map = box.map;
  int64_t rows = 1;
  for (int d = 1; d < map.dims; ++d) rows *= map.box[d];
  const int64_t first = box.place[0];
  const int64_t inside = std::clamp<int64_t>(map.extents[0] - first, 0, map.box[0]);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t rest = row, offset = first * map.element_bytes;
    bool there = first >= 0;
    for (int d = 1; d < map.dims; ++d) {
      const int64_t at = box.place[d] + rest % map.box[d];
      rest /= map.box[d];
      there = there && at >= 0 && at < map.extents[d];
      offset += at * map.strides[d];
    }
    take(row, map.address + (there ? offset : 0), there ? inside * map.element_bytes : 0);
  }
}

}  // namespace

std::optional<HostTensorMap> MakeHostTensorMap(const HostMapRequest& request) {
  const size_t dims = request.extents.size();
  if (dims == 0 || dims > HostTensorMap::kMostDims || request.strides.size() + 1 != dims ||
      request.box.size() != dims) {
    return std::nullopt;
  }
  HostTensorMap map = {.mark = kMark,
                       .address = static_cast<const std::byte*>(request.address),
                       .dims = static_cast<int32_t>(dims),
                       .element_bytes = request.element_bytes,
                       .swizzle_bytes = static_cast<int16_t>(request.swizzle_bytes)};
  bool right = reinterpret_cast<uintptr_t>(request.address) % 16 == 0;
  for (size_t d = 0; d < dims; ++d) {
    const uint64_t stride = d == 0 ? static_cast<uint64_t>(request.element_bytes) : request.strides[d - 1];
    map.extents[d] = static_cast<int64_t>(request.extents[d]);
    map.strides[d] = static_cast<int64_t>(stride);
    map.box[d] = static_cast<int16_t>(request.box[d]);
    right = right && request.extents[d] >= 1 && request.extents[d] <= uint64_t{1} << 32;
    right = right && request.box[d] >= 1 && request.box[d] <= 256;
    right = right && (d == 0 || (stride % 16 == 0 && stride < uint64_t{1} << 40));
  }
  const int64_t row_bytes = int64_t{map.box[0]} * map.element_bytes;
  right = right && row_bytes % 16 == 0 && (request.swizzle_bytes == 0 || row_bytes <= request.swizzle_bytes);
  return right ? std::optional(map) : std::nullopt;
}

std::optional<HostTensorMap> ReadHostTensorMap(const void* map) {
  HostTensorMap read;
  std::memcpy(static_cast<void*>(&read), map, sizeof(read));
  return read.mark == kMark ? std::optional(read) : std::nullopt;
}

uint32_t HostBox::Bytes() const {
  uint32_t bytes = static_cast<uint32_t>(map.element_bytes);
  for (int d = 0; d < map.dims; ++d) bytes *= static_cast<uint32_t>(map.box[d]);
  return bytes;
}

std::vector<std::byte> HostBox::Gather(uintptr_t to) const {
  std::vector<std::byte> bytes(Bytes());
  const auto row_bytes = static_cast<size_t>(map.box[0]) * static_cast<size_t>(map.element_bytes);
  ForEachRow(*this, [&](int64_t row, const std::byte* from, int64_t inside) {
    const size_t begin = static_cast<size_t>(row) * row_bytes;
    for (size_t at = 0; at < row_bytes; at += 16) {
      // Of 128 bytes: bits 4 to 6 of an address are exchanged by its bits 7 to 9.
      const size_t plain = begin + at;
      const size_t swap = map.swizzle_bytes == 128 ? (to + plain) >> 7 & 7 : 0;
      const auto there = static_cast<size_t>(std::clamp<int64_t>(inside - static_cast<int64_t>(at), 0, 16));
      std::memcpy(bytes.data() + (plain ^ swap << 4), from + at, there);
    }
  });
  return bytes;
}

std::vector<std::span<const std::byte>> HostBox::Runs() const {
  std::vector<std::span<const std::byte>> runs;
  ForEachRow(*this, [&](int64_t, const std::byte* from, int64_t inside) {
    if (inside > 0) runs.emplace_back(from, static_cast<size_t>(inside));
  });
  return runs;
}

}  // namespace preheat::codegen::cuda
