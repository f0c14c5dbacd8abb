#include "sys/code_image.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace preheat::sys {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr std::array<char, 8> kMagic = {'P', 'H', 'C', 'O', 'D', 'E', 0, 1};
constexpr size_t kHeaderSize = 24;
constexpr size_t kEntrySize = 8;
constexpr size_t kBodyAlignmentInFile = 16;

void AppendU32(std::vector<std::byte>& out, size_t value) {
  CHECK(value <= UINT32_MAX);
  const auto narrow = static_cast<uint32_t>(value);
  const auto bytes = std::as_bytes(std::span(&narrow, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void AppendText(std::vector<std::byte>& out, std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

uint32_t ReadU32(std::span<const std::byte> bytes, size_t offset) {
  uint32_t value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Takes `size` bytes of text from the front of `rest`.
std::string_view TakeText(std::span<const std::byte>& rest, size_t size) {
  if (size > rest.size()) throw MakeError(ErrorKind::kCorrupt, "code image: a name runs past its end");
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), size);
  rest = rest.subspan(size);
  return text;
}

}  // namespace

bool IsPtxTarget(std::string_view target) {
  return target.starts_with("compute_");
}

std::vector<std::byte> SerializeCodeImage(const CodeImage& image) {
  std::vector<std::byte> out;
  AppendText(out, std::string_view(kMagic.data(), kMagic.size()));
  AppendU32(out, image.alignment);
  AppendU32(out, image.target.size());
  AppendU32(out, image.entries.size());
  AppendU32(out, image.body.size());
  for (const CodeEntry& entry : image.entries) {
    AppendU32(out, entry.offset);
    AppendU32(out, entry.name.size());
  }
  AppendText(out, image.target);
  for (const CodeEntry& entry : image.entries) AppendText(out, entry.name);
  out.resize((out.size() + kBodyAlignmentInFile - 1) / kBodyAlignmentInFile * kBodyAlignmentInFile);
  out.insert(out.end(), image.body.begin(), image.body.end());
  return out;
}

CodeImageView ParseCodeImage(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderSize) throw MakeError(ErrorKind::kCorrupt, "code image: shorter than its header");
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    throw MakeError(ErrorKind::kCorrupt, "code image: wrong magic number or version");
  }
  CodeImageView view;
  view.alignment = ReadU32(bytes, 8);
  const uint32_t target_size = ReadU32(bytes, 12);
  const uint32_t entry_count = ReadU32(bytes, 16);
  const uint32_t body_size = ReadU32(bytes, 20);
  if (!std::has_single_bit(view.alignment) || view.alignment > 4096) {
    throw MakeError(ErrorKind::kCorrupt, "code image: alignment {} is not a power of two up to 4096",
                    view.alignment);
  }
  std::span<const std::byte> rest = bytes.subspan(kHeaderSize);
  if (entry_count > rest.size() / kEntrySize) {
    throw MakeError(ErrorKind::kCorrupt, "code image: {} entries do not fit in {} bytes", entry_count,
                    bytes.size());
  }
  const std::span<const std::byte> table = rest.first(entry_count * kEntrySize);
  rest = rest.subspan(table.size());
  view.target = TakeText(rest, target_size);
  view.entries.reserve(entry_count);
  for (size_t i = 0; i < entry_count; ++i) {
    const uint32_t offset = ReadU32(table, i * kEntrySize);
    if (offset >= body_size)
      throw MakeError(ErrorKind::kCorrupt, "code image: entry {} lies outside the code", i);
    view.entries.push_back({TakeText(rest, ReadU32(table, i * kEntrySize + 4)), offset});
  }
  const size_t used = bytes.size() - rest.size();
  const size_t padding = (kBodyAlignmentInFile - used % kBodyAlignmentInFile) % kBodyAlignmentInFile;
  if (rest.size() < padding || rest.size() - padding != body_size) {
    throw MakeError(ErrorKind::kCorrupt, "code image: {} bytes of code expected, {} found", body_size,
                    rest.size());
  }
  const auto zeros = rest.first(padding);
  if (!std::ranges::all_of(zeros, [](std::byte b) { return b == std::byte{0}; })) {
    throw MakeError(ErrorKind::kCorrupt, "code image: its padding is not zero");
  }
  view.body = rest.subspan(padding);
  return view;
}

}  // namespace preheat::sys
