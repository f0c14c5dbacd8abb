// Machine code in anonymous memory. Written while writable, then switched to its final rights: no page is
// ever writable and executable at once, which hardened hosts refuse. Unmapped by the destructor: no call may
// be under way then.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace preheat::sys {

enum class Protection { kRead, kReadExecute, kReadWrite };

// One part of an image. Bytes behind `bytes` up to `memory_bytes` are zero.
struct ImageSegment {
  size_t offset = 0;  // in the image
  std::span<const std::byte> bytes;
  size_t memory_bytes = 0;  // >= bytes.size()
  Protection protection = Protection::kRead;
};

class ExecutableMemory {
 public:
  ExecutableMemory() = default;
  // Images come from files: parts that overlap, share a page with different rights, or add up to more than 1
  // GiB are kCorrupt. kAccessDenied where the host forbids code in anonymous memory; kIo where there is no
  // memory.
  static ExecutableMemory Map(std::span<const ImageSegment> segments);
  ~ExecutableMemory();
  ExecutableMemory(ExecutableMemory&& other) noexcept;
  ExecutableMemory& operator=(ExecutableMemory&& other) noexcept;
  ExecutableMemory(const ExecutableMemory&) = delete;
  ExecutableMemory& operator=(const ExecutableMemory&) = delete;

  // Where offset 0 lies; page-aligned.
  const std::byte* base() const { return image_.data(); }
  size_t size() const { return image_.size(); }

  // REQUIRES: offset < size() and lies in an executable segment.
  template <typename Function>
  Function FunctionAt(size_t offset) const {
    return reinterpret_cast<Function>(reinterpret_cast<size_t>(image_.data()) + offset);
  }

 private:
  std::span<std::byte> image_;
};

}  // namespace preheat::sys
