#include "codegen/cuda/host_shared_for_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace preheat::codegen::cuda {
namespace {

constexpr size_t kAlignment = 1024;
constexpr size_t kGranule = 16;

bool Misaligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % kGranule != 0;
}

}  // namespace

void SharedBuffer::Start(int bytes) {
  bytes_ = static_cast<size_t>(bytes);
  storage_.resize(std::max(storage_.size(), bytes_ + 2 * kGuardBytes + kAlignment));
  const auto address = reinterpret_cast<uintptr_t>(storage_.data()) + kGuardBytes;
  data_ = storage_.data() + kGuardBytes + (kAlignment - address % kAlignment) % kAlignment;
  std::fill_n(data_ - kGuardBytes, kGuardBytes, kGuard);
  std::fill_n(data_, bytes_, kPoison);
  std::fill_n(data_ + bytes_, kGuardBytes, kGuard);
  in_flight_.assign(bytes_ / kGranule + 1, 0);
  landings_.assign(bytes_ / kGranule + 1, 0);
  landed_ = 0;
}

bool SharedBuffer::Contains(const void* p, size_t bytes) const {
  const auto* at = static_cast<const std::byte*>(p);
  return at >= data_ && at <= data_ + bytes_ && bytes <= static_cast<size_t>(data_ + bytes_ - at);
}

bool SharedBuffer::Touches(const void* p, size_t bytes) const {
  const auto* at = static_cast<const std::byte*>(p);
  return at < data_ + bytes_ && at + bytes > data_;
}

std::string SharedBuffer::Name(const void* p) const {
  const ptrdiff_t offset = static_cast<const std::byte*>(p) - data_;
  return offset < 0 ? fmt::format("shared memory - {}", -offset) : fmt::format("shared memory + {}", offset);
}

std::string SharedBuffer::Damage() const {
  const auto first = [](const std::byte* from, const std::byte* to) {
    return std::find_if(from, to, [](std::byte b) { return b != kGuard; });
  };
  const std::byte* end = data_ + bytes_;
  for (const auto& [from, to] : {std::pair{data_ - kGuardBytes, static_cast<const std::byte*>(data_)},
                                 std::pair{static_cast<std::byte*>(data_) + bytes_, end + kGuardBytes}}) {
    if (const std::byte* at = first(from, to); at != to) {
      return fmt::format("out of bounds: {} was written, the block has {} bytes", Name(at), bytes_);
    }
  }
  return "";
}

std::string SharedBuffer::Issue(PendingCopy& copy) {
  if (Misaligned(copy.to) || copy.bytes % kGranule != 0 || copy.bytes == 0) {
    return fmt::format("a copy of {} bytes to {}: destination and size must be multiples of 16", copy.bytes,
                       Name(copy.to));
  }
  if (copy.from != nullptr && Misaligned(copy.from)) {
    return fmt::format("a copy from {}: the source must be a multiple of 16",
                       static_cast<const void*>(copy.from));
  }
  if (!Contains(copy.to, copy.bytes)) {
    return fmt::format("a copy of {} bytes to {}: the block has {} bytes", copy.bytes, Name(copy.to), bytes_);
  }
  if (InFlight(copy.to, copy.bytes)) {
    return fmt::format("a copy of {} bytes to {}: another is in flight to the same bytes", copy.bytes,
                       Name(copy.to));
  }
  if (copy.box && reinterpret_cast<uintptr_t>(copy.to) % 128 != 0) {
    return fmt::format("a box to {}: it must begin at a multiple of 128", Name(copy.to));
  }
  if (copy.from != nullptr) copy.source.assign(copy.from, copy.from + copy.bytes);
  if (copy.box) copy.source = copy.box->Gather(reinterpret_cast<uintptr_t>(copy.to));
  std::fill_n(copy.to, copy.bytes, kPoison);
  std::fill_n(in_flight_.begin() + (copy.to - data_) / static_cast<ptrdiff_t>(kGranule),
              copy.bytes / kGranule, uint8_t{1});
  return "";
}

std::string SharedBuffer::Perform(const PendingCopy& copy) {
  const auto is_poison = [](std::byte b) { return b == kPoison; };
  const std::byte* written = std::find_if_not(copy.to, copy.to + copy.bytes, is_poison);
  if (written != copy.to + copy.bytes) {
    return fmt::format("{} was written while a copy was in flight to it, issued at line {}", Name(written),
                       copy.line);
  }
  const bool changed =
      copy.from != nullptr
          ? std::memcmp(copy.from, copy.source.data(), copy.bytes) != 0
          : copy.box && copy.box->Gather(reinterpret_cast<uintptr_t>(copy.to)) != copy.source;
  if (changed) {
    return fmt::format("the source of the copy issued at line {} changed while it was in flight", copy.line);
  }
  if (copy.source.empty()) {
    std::fill_n(copy.to, copy.bytes, std::byte{0});
  } else {
    std::memcpy(copy.to, copy.source.data(), copy.bytes);
  }
  std::fill_n(in_flight_.begin() + (copy.to - data_) / static_cast<ptrdiff_t>(kGranule),
              copy.bytes / kGranule, uint8_t{0});
  return "";
}

bool SharedBuffer::InFlight(const void* p, size_t bytes) const {
  const auto offset = static_cast<size_t>(static_cast<const std::byte*>(p) - data_);
  const auto begin = in_flight_.begin() + static_cast<ptrdiff_t>(offset / kGranule);
  const auto end = in_flight_.begin() + static_cast<ptrdiff_t>((offset + bytes + kGranule - 1) / kGranule);
  return std::find(begin, end, 1) != end;
}

void SharedBuffer::Land(const std::byte* p) {
  landings_[static_cast<size_t>(p - data_) / kGranule] = ++landed_;
}

uint32_t SharedBuffer::Landing(const std::byte* p) const {
  return landings_[static_cast<size_t>(p - data_) / kGranule];
}

}  // namespace preheat::codegen::cuda
