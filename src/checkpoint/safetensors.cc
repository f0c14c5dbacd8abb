#include "checkpoint/safetensors.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "checkpoint/safetensors_json.h"

namespace preheat::checkpoint {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr uint64_t kLargestHeaderBytes = 100'000'000;
constexpr size_t kLengthBytes = 8;

// The bytes that shape and type call for; nullopt where that is no whole number of bytes or too large.
std::optional<uint64_t> ExpectedBytes(const SafetensorsEntry& entry) {
  uint64_t bits = BitsPerElement(entry.dtype_name);
  for (const int64_t extent : entry.shape.extents()) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(extent), &bits)) return std::nullopt;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

void CheckOffsets(std::vector<SafetensorsEntry>* entries, uint64_t data_bytes, std::string_view file) {
  // Empty tensors share their begin with the next: the end decides.
  std::sort(entries->begin(), entries->end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : *entries) {
    const auto fail = [&](std::string_view why) {
      throw MakeError(ErrorKind::kCorrupt, "{}: tensor \"{}\" (bytes {} to {}): {}; get the file anew", file,
                      entry.name, entry.begin, entry.end, why);
    };
    if (entry.end < entry.begin) fail("its end lies before its begin");
    if (entry.begin < at) fail(fmt::format("overlaps the tensor before it, which ends at {}", at));
    if (entry.begin > at) fail(fmt::format("there is a hole before it, from {}", at));
    const std::optional<uint64_t> expected = ExpectedBytes(entry);
    if (!expected) fail(fmt::format("its shape {} has no size in bytes", entry.shape.ToString()));
    if (*expected != entry.end - entry.begin) {
      fail(fmt::format("its shape {} of {} needs {} bytes", entry.shape.ToString(), entry.dtype_name,
                       *expected));
    }
    if (entry.end > data_bytes) fail(fmt::format("the file is cut off: it has {} bytes of data", data_bytes));
    at = entry.end;
  }
  if (at != data_bytes) {
    throw MakeError(ErrorKind::kCorrupt, "{}: {} bytes of data follow the last tensor; get the file anew",
                    file, data_bytes - at);
  }
}

}  // namespace

SafetensorsHeader ParseSafetensors(std::span<const std::byte> bytes, std::string_view file) {
  if (bytes.size() < kLengthBytes) {
    throw MakeError(ErrorKind::kCorrupt, "{}: {} bytes are no safetensors file; get the file anew", file,
                    bytes.size());
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  if (length > kLargestHeaderBytes) {
    throw MakeError(ErrorKind::kCorrupt,
                    "{}: a header of {} bytes, where at most {} are allowed; is it safetensors?", file,
                    length, kLargestHeaderBytes);
  }
  if (length > bytes.size() - kLengthBytes) {
    throw MakeError(ErrorKind::kCorrupt,
                    "{}: a header of {} bytes in a file of {}: cut off; get the file anew", file, length,
                    bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  SafetensorsHeader header;
  header.data_start = kLengthBytes + length;
  ParseSafetensorsJson(text, file, header);
  CheckOffsets(&header.entries, bytes.size() - header.data_start, file);
  return header;
}

SafetensorsFile SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile file;
  file.file_ = sys::MappedFile::Open(path);
  file.header_ = ParseSafetensors(file.file_.bytes(), path);
  for (size_t i = 0; i < file.header_.entries.size(); ++i)
    file.index_.emplace(file.header_.entries[i].name, i);
  return file;
}

const SafetensorsEntry* SafetensorsFile::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

tensor::TensorView SafetensorsFile::View(const SafetensorsEntry& entry) const {
  if (!entry.dtype) {
    throw MakeError(ErrorKind::kUnsupported, "{}: tensor \"{}\" is of dtype {}: not supported", path(),
                    entry.name, entry.dtype_name);
  }
  return tensor::TensorView(*entry.dtype, entry.shape, data().subspan(entry.begin, entry.end - entry.begin));
}

std::string MakeSafetensorsHeader(std::vector<SafetensorsEntry>* entries,
                                  const std::map<std::string, std::string>& metadata) {
  uint64_t at = 0;
  for (SafetensorsEntry& entry : *entries) {
    entry.dtype_name = std::string(tensor::SafetensorsName(entry.dtype.value()));
    entry.begin = at;
    entry.end = at + static_cast<uint64_t>(entry.shape.Elements()) * tensor::Bytes(*entry.dtype);
    at = entry.end;
  }
  std::string json = SafetensorsJson(*entries, metadata);
  // The data starts at a multiple of 8, as the reference writer has it.
  json.resize((json.size() + 7) / 8 * 8, ' ');
  std::string header;
  for (size_t i = 0; i < kLengthBytes; ++i) header += static_cast<char>((json.size() >> (8 * i)) & 0xff);
  return header + json;
}

}  // namespace preheat::checkpoint
