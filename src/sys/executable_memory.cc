#include "sys/executable_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "sys/os_error.h"

namespace preheat::sys {
namespace {

constexpr size_t kLargestImageBytes = size_t{1} << 30;

int ProtectionFlags(Protection protection) {
  switch (protection) {
    case Protection::kRead:
      return PROT_READ;
    case Protection::kReadExecute:
      return PROT_READ | PROT_EXEC;
    case Protection::kReadWrite:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

size_t RoundUp(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// The image's size in whole pages. Two segments may share a page only with the same rights.
size_t CheckedImageBytes(std::vector<ImageSegment>& segments, size_t page) {
  std::sort(segments.begin(), segments.end(),
            [](const ImageSegment& a, const ImageSegment& b) { return a.offset < b.offset; });
  size_t end = 0;
  const ImageSegment* previous = nullptr;
  for (const ImageSegment& segment : segments) {
    if (segment.memory_bytes < segment.bytes.size() || segment.memory_bytes > kLargestImageBytes ||
        segment.offset > kLargestImageBytes || segment.offset < end) {
      throw base::MakeError(base::ErrorKind::kCorrupt,
                            "machine code: segment at {} of {} bytes overlaps another or is too large",
                            segment.offset, segment.memory_bytes);
    }
    const bool shares_page = previous != nullptr && segment.offset / page < RoundUp(end, page) / page;
    if (shares_page && previous->protection != segment.protection) {
      throw base::MakeError(base::ErrorKind::kCorrupt,
                            "machine code: segment at {} shares a page with one of other rights",
                            segment.offset);
    }
    end = segment.offset + segment.memory_bytes;
    previous = &segment;
  }
  return RoundUp(end, page);
}

}  // namespace

ExecutableMemory ExecutableMemory::Map(std::span<const ImageSegment> given) {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<ImageSegment> segments;
  for (const ImageSegment& segment : given) {
    if (segment.memory_bytes > 0 || !segment.bytes.empty()) segments.push_back(segment);
  }
  const size_t bytes = CheckedImageBytes(segments, page);
  ExecutableMemory memory;
  if (bytes == 0) return memory;
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw OsError(errno, "cannot map machine code", "anonymous memory");
  memory.image_ = {static_cast<std::byte*>(address), bytes};
  for (const ImageSegment& segment : segments) {
    if (!segment.bytes.empty()) {
      std::memcpy(memory.image_.data() + segment.offset, segment.bytes.data(), segment.bytes.size());
    }
  }
  // Gaps between segments are nobody's: unreadable.
  if (::mprotect(address, bytes, PROT_NONE) != 0) throw OsError(errno, "cannot map machine code", "mprotect");
  for (const ImageSegment& segment : segments) {
    const size_t begin = segment.offset / page * page;
    const size_t end = RoundUp(segment.offset + segment.memory_bytes, page);
    if (::mprotect(memory.image_.data() + begin, end - begin, ProtectionFlags(segment.protection)) != 0) {
      if (errno == EACCES || errno == EPERM) {
        throw base::MakeError(
            base::ErrorKind::kAccessDenied,
            "cannot map machine code: this host forbids executable anonymous memory ({}); allow it "
            "(SELinux: execmem) or run with --execution eager",
            OsErrorText(errno));
      }
      throw OsError(errno, "cannot map machine code", "mprotect");
    }
  }
  return memory;
}

ExecutableMemory::~ExecutableMemory() {
  if (!image_.empty()) ::munmap(image_.data(), image_.size());
}

ExecutableMemory::ExecutableMemory(ExecutableMemory&& other) noexcept
    : image_(std::exchange(other.image_, {})) {}

ExecutableMemory& ExecutableMemory::operator=(ExecutableMemory&& other) noexcept {
  std::swap(image_, other.image_);
  return *this;
}

}  // namespace preheat::sys
