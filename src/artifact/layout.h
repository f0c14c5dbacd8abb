// The fixed bytes of the format, shared by reader and writer; docs/format.md documents them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace preheat::artifact {

// As PNG's: not text, and a transfer that changes line ends or strips the eighth bit breaks it.
inline constexpr std::array<uint8_t, 8> kMagic = {0x89, 'P', 'H', 'E', 'A', 'T', '\r', '\n'};
inline constexpr size_t kHeaderSize = 64;
inline constexpr size_t kVersionAt = 8;
inline constexpr size_t kFlagsAt = 12;
inline constexpr size_t kManifestSizeAt = 16;
inline constexpr size_t kFileSizeAt = 24;
inline constexpr size_t kManifestHashAt = 32;

inline constexpr uint32_t kSignedFlag = 1;
inline constexpr size_t kSignatureBlockSize = 96;  // public key, signature

// Payload and entries begin at multiples of this.
inline constexpr uint64_t kEntryAlignment = 16;
inline constexpr uint64_t AlignEntry(uint64_t offset) {
  return (offset + kEntryAlignment - 1) / kEntryAlignment * kEntryAlignment;
}

// An entry is not decompressed to more than this: far beyond any, and no bomb.
inline constexpr uint64_t kLargestEntry = uint64_t{1} << 30;

}  // namespace preheat::artifact
