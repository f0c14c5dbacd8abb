// Tensor maps on the host, and the boxes that copies bring by them. Source: CUDA driver API,
// cuTensorMapEncodeTiled; PTX ISA, "Tensors" and "swizzling modes".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace preheat::codegen::cuda {

// What stands in the 128 bytes of a map that was made here.
struct HostTensorMap {
  static constexpr int kMostDims = 4;

  uint64_t mark = 0;
  const std::byte* address = nullptr;
  int32_t dims = 0;
  int32_t element_bytes = 0;
  int64_t extents[kMostDims] = {};
  int64_t strides[kMostDims] = {};  // in bytes; the first is of an element
  int16_t box[kMostDims] = {};
  int16_t swizzle_bytes = 0;
};
struct HostMapRequest {
  const void* address = nullptr;
  int element_bytes = 2;
  int swizzle_bytes = 0;
  std::span<const uint64_t> extents{};
  std::span<const uint64_t> strides{};  // of all but the first
  std::span<const uint32_t> box{};
};
// nullopt where the driver would refuse it.
std::optional<HostTensorMap> MakeHostTensorMap(const HostMapRequest& request);
// nullopt where `map` is none of ours.
std::optional<HostTensorMap> ReadHostTensorMap(const void* map);

// A box whose first element is at `place`.
struct HostBox {
  HostTensorMap map;
  int place[HostTensorMap::kMostDims] = {};

  uint32_t Bytes() const;
  // As it comes to an address whose last ten bits are those of `to`.
  std::vector<std::byte> Gather(uintptr_t to) const;
  // Runs of bytes that it reads, of those rows that lie inside.
  std::vector<std::span<const std::byte>> Runs() const;
};

}  // namespace preheat::codegen::cuda
