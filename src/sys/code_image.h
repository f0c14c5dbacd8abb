// A code image: machine code for one target as plain bytes, without an operating system's file format.
// The toolchain makes it from a compiler's object file; the device copies its body into executable memory.
// The body needs no loader: it has no relocations left, imports nothing, writes to nothing of its own.
// For a card the body is what its driver loads: a cubin, or where the target is one of PTX, that text and a
// NUL; offsets are 0.
//
// Format (little-endian):
//   0   8  magic "PHCODE\0\1"; the last byte is the version
//   8   4  alignment of the body in memory, a power of two, at most 4096
//   12  4  target_size   bytes of the target's name, e.g. "x86-64-v4"
//   16  4  entry_count
//   20  4  body_size
//   24  .. entry_count x { u32 offset in the body, u32 name_size }
//       .. target, then the names of the entries in order, without separators
//       .. zeros up to a multiple of 16 bytes from the image's begin
//       .. body: code and its constants
//
// Parsing copies nothing and runs nothing; the views point into the bytes given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::sys {

struct CodeEntry {
  std::string name;
  uint32_t offset = 0;  // of the function's first instruction in the body
};

struct CodeImage {
  std::string target;
  uint32_t alignment = 64;
  std::vector<CodeEntry> entries;  // sorted by name, so that equal code has equal bytes
  std::vector<std::byte> body;
};

struct CodeImageView {
  struct Entry {
    std::string_view name;
    uint32_t offset = 0;
  };
  std::string_view target;
  uint32_t alignment = 64;
  std::vector<Entry> entries;
  std::span<const std::byte> body;
};

// "compute_90" and the like: PTX for cards of that compute capability and later ones, which their driver has
// to compile. All other targets are machine code.
bool IsPtxTarget(std::string_view target);

std::vector<std::byte> SerializeCodeImage(const CodeImage& image);

// Throws kCorrupt where the bytes are not a whole, well-formed image of a version we know.
CodeImageView ParseCodeImage(std::span<const std::byte> bytes);

}  // namespace preheat::sys
