// The bytes of an entry file; store.h documents them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/entry_source.h"

namespace preheat::store {

struct EntryFile {
  std::vector<KeyPart> parts;
  size_t payload_offset = 0;  // from the file's begin
  std::span<const std::byte> payload;
};

inline constexpr size_t kEntryHeaderSize = 56;

// Everything before the payload.
std::vector<std::byte> MakeEntryPrefix(EntryKind kind, const std::vector<KeyPart>& parts,
                                       std::span<const std::byte> payload);

// Checks everything, and that the entry is what its place in the store says. Throws kCorrupt.
EntryFile ParseEntryFile(std::span<const std::byte> file, EntryKind kind, std::string_view name);

// What a file's header says, unchecked but for its form: for listing without reading payloads.
struct EntryHeader {
  uint32_t parts_size = 0;
  uint64_t payload_size = 0;
};
// Throws kCorrupt. REQUIRES: nothing about `begin`.
EntryHeader ParseEntryHeader(std::span<const std::byte> begin, EntryKind kind);

}  // namespace preheat::store
