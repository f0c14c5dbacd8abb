// The shared memory of one block on the host, and copies into it that are under way. Everything that a kernel
// must not read is NaN as bf16, f16 and fp32: the whole memory when the block starts, and the destination of
// a copy from its issue until it is performed, which is as late as it may be.
//
// What a kernel may get wrong is returned as text, "" where nothing is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/cuda/host_boxes_for_test.h"

namespace preheat::codegen::cuda {

// A copy that was issued and not performed.
struct PendingCopy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;  // null: zeros, or a box, or what `source` says from the begin
  uint32_t bytes = 0;
  std::optional<HostBox> box{};
  std::vector<std::byte> source;  // as it was at the issue
  int line = 0;
  int thread = 0;
};

class SharedBuffer {
 public:
  // The most that a block can have on any card we know (sm_90, sm_100).
  static constexpr int kMaxBytes = 227 << 10;
  static constexpr std::byte kPoison{0xff};

  // A block starts: `bytes` of NaN between guards.
  void Start(int bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  bool Contains(const void* p, size_t bytes) const;
  // Whether any of the bytes lies in the buffer.
  bool Touches(const void* p, size_t bytes) const;
  // "shared memory + 64"
  std::string Name(const void* p) const;
  // What was written outside of the buffer, beside it.
  std::string Damage() const;

  // Checks a copy's addresses, poisons its destination. What is wrong with it, or "" and `copy` is complete.
  std::string Issue(PendingCopy& copy);
  // Performs it.
  std::string Perform(const PendingCopy& copy);
  // Whether a copy is under way to any of the bytes. REQUIRES: Contains(p, bytes).
  bool InFlight(const void* p, size_t bytes) const;
  // 16 bytes came by CopyAsync16. Landings are counted, so that a fence can be told from a later one; 0: it
  // came otherwise.
  void Land(const std::byte* p);
  uint32_t landed() const { return landed_; }
  uint32_t Landing(const std::byte* p) const;

 private:
  static constexpr size_t kGuardBytes = 1024;
  static constexpr std::byte kGuard{0xa5};

  std::vector<std::byte> storage_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  std::vector<uint8_t> in_flight_;  // 1 for each 16 bytes that a copy is under way to
  std::vector<uint32_t> landings_;  // of each 16 bytes
  uint32_t landed_ = 0;
};

}  // namespace preheat::codegen::cuda
