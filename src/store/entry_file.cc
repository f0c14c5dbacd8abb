#include "store/entry_file.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"

namespace preheat::store {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr std::array<char, 8> kMagic = {'P', 'H', 'E', 'N', 'T', 'R', 'Y', 1};
constexpr size_t kHashedHeaderSize = 24;  // what stands before the hash

template <typename T>
void PutNumber(std::span<std::byte> out, size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof value);
}

template <typename T>
T GetNumber(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

base::Digest EntryDigest(std::span<const std::byte> header, std::span<const std::byte> parts,
                         std::span<const std::byte> payload) {
  base::Sha256Stream stream;
  stream.Update(header);
  stream.Update(parts);
  stream.Update(payload);
  return stream.Finish();
}

}  // namespace

std::vector<std::byte> MakeEntryPrefix(EntryKind kind, const std::vector<KeyPart>& parts,
                                       std::span<const std::byte> payload) {
  const std::string text = PartsText(parts);
  CHECK(text.size() <= UINT32_MAX);
  std::vector<std::byte> prefix(kEntryHeaderSize + text.size());
  std::memcpy(prefix.data(), kMagic.data(), kMagic.size());
  PutNumber(prefix, 8, static_cast<uint32_t>(kind));
  PutNumber(prefix, 12, static_cast<uint32_t>(text.size()));
  PutNumber(prefix, 16, static_cast<uint64_t>(payload.size()));
  std::memcpy(prefix.data() + kEntryHeaderSize, text.data(), text.size());
  const std::span<const std::byte> whole(prefix);
  const base::Digest digest =
      EntryDigest(whole.first(kHashedHeaderSize), whole.subspan(kEntryHeaderSize), payload);
  std::memcpy(prefix.data() + kHashedHeaderSize, digest.data(), digest.size());
  return prefix;
}

EntryHeader ParseEntryHeader(std::span<const std::byte> begin, EntryKind kind) {
  if (begin.size() < kEntryHeaderSize) throw MakeError(ErrorKind::kCorrupt, "shorter than its header");
  if (std::memcmp(begin.data(), kMagic.data(), kMagic.size()) != 0) {
    throw MakeError(ErrorKind::kCorrupt, "wrong magic number or version");
  }
  if (GetNumber<uint32_t>(begin, 8) != static_cast<uint32_t>(kind)) {
    throw MakeError(ErrorKind::kCorrupt, "an entry of another kind");
  }
  return {GetNumber<uint32_t>(begin, 12), GetNumber<uint64_t>(begin, 16)};
}

EntryFile ParseEntryFile(std::span<const std::byte> file, EntryKind kind, std::string_view name) {
  const EntryHeader header = ParseEntryHeader(file, kind);
  const std::span<const std::byte> rest = file.subspan(kEntryHeaderSize);
  if (header.parts_size > rest.size() || header.payload_size != rest.size() - header.parts_size) {
    throw MakeError(ErrorKind::kCorrupt, "its size is not what its header says");
  }
  const auto parts = rest.first(header.parts_size);
  EntryFile entry;
  entry.payload = rest.subspan(header.parts_size);
  entry.payload_offset = kEntryHeaderSize + parts.size();
  const base::Digest digest = EntryDigest(file.first(kHashedHeaderSize), parts, entry.payload);
  if (std::memcmp(digest.data(), file.data() + kHashedHeaderSize, digest.size()) != 0) {
    throw MakeError(ErrorKind::kCorrupt, "its hash does not match");
  }
  const std::string_view text(reinterpret_cast<const char*>(parts.data()), parts.size());
  const std::string right_name = text.empty() ? base::Sha256Hex(entry.payload) : base::Sha256Hex(text);
  if (right_name != name) throw MakeError(ErrorKind::kCorrupt, "it lies under another key's name");
  entry.parts = ParsePartsText(text);
  return entry;
}

}  // namespace preheat::store
