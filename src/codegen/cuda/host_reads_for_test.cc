#include "codegen/cuda/host_reads_for_test.h"

#include <fmt/format.h>

#include <algorithm>

namespace preheat::codegen::cuda {
namespace {

// Whether memory of `access` may be read so; "" if it may.
std::string CheckAccess(Reader reader, HostAccess access, bool has_waited) {
  const bool past_caches = reader != Reader::kStream;
  switch (access) {
    case HostAccess::kImmutable:
      return "";
    case HostAccess::kEarlier:
      return past_caches ? "" : "of what an earlier step made";
    case HostAccess::kDependent:
      if (!past_caches || reader == Reader::kEarlier) return "of what another kernel made";
      break;
    case HostAccess::kWritten:
      if (!past_caches || reader == Reader::kEarlier || reader == Reader::kBulk || reader == Reader::kBox)
        return "of what this launch writes";
      break;
  }
  return has_waited ? "" : "of what another kernel made, before WaitDependencies";
}

}  // namespace

const char* ReaderName(Reader reader) {
  switch (reader) {
    case Reader::kStream:
      return "LoadStream";
    case Reader::kEarlier:
      return "LoadEarlier";
    case Reader::kDependent:
      return "LoadDependent";
    case Reader::kAsync:
      return "CopyAsync16";
    case Reader::kBulk:
      return "CopyBulk";
    case Reader::kBox:
      return "CopyBox";
  }
  return "";
}

std::string CheckRead(const HostFiber& self, Reader reader, const void* p, size_t bytes) {
  if (self.block->shared.Touches(p, bytes)) {
    return fmt::format("{} of {}: it reads global memory", ReaderName(reader), self.block->shared.Name(p));
  }
  if (reader == Reader::kDependent && !self.has_waited) return "LoadDependent before WaitDependencies";
  const std::vector<HostRange>& ranges = HostRunner::current().launch().ranges;
  if (ranges.empty()) return "";
  // The read may go over several ranges that lie side by side.
  const auto* at = static_cast<const std::byte*>(p);
  const std::byte* end = at + bytes;
  while (at < end) {
    const auto range = std::find_if(ranges.begin(), ranges.end(), [&](const HostRange& r) {
      const auto* begin = static_cast<const std::byte*>(r.begin);
      return at >= begin && at < begin + r.bytes;
    });
    if (range == ranges.end()) {
      return fmt::format("{} of {} bytes at {}: {} is in no buffer of the launch", ReaderName(reader), bytes,
                         p, static_cast<const void*>(at));
    }
    const std::string problem = CheckAccess(reader, range->access, self.has_waited);
    if (!problem.empty()) {
      return fmt::format("{} {}, at {}", ReaderName(reader), problem, static_cast<const void*>(at));
    }
    at = static_cast<const std::byte*>(range->begin) + range->bytes;
  }
  return "";
}

std::string CheckAligned(const char* name, const void* p, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(p) % bytes == 0) return "";
  return fmt::format("{} of {} bytes at {}: misaligned", name, bytes, p);
}

}  // namespace preheat::codegen::cuda
