// SHA-256, the one hash of the project: names machine code, keys entries, checks files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace preheat::base {

using Digest = std::array<uint8_t, 32>;

Digest Sha256(std::span<const std::byte> bytes);
Digest Sha256(std::string_view text);

// 64 lower-case hex digits.
std::string ToHex(const Digest& digest);
// Sha256 then ToHex.
std::string Sha256Hex(std::string_view text);
std::string Sha256Hex(std::span<const std::byte> bytes);

// For bytes that come in pieces.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  void Update(std::span<const std::byte> bytes);
  // Ends the stream; no Update after it.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace preheat::base
