#include "tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

namespace preheat::tokenizer {
namespace {

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr int kCodePoints = 0x100 + 68;

constexpr std::array<uint16_t, 256> MakeByteToCodePoint() {
  std::array<uint16_t, 256> table{};
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[byte] = static_cast<uint16_t>(StandsForItself(byte) ? byte : next++);
  }
  return table;
}

constexpr std::array<uint16_t, 256> kByteToCodePoint = MakeByteToCodePoint();

// -1: not of the alphabet.
constexpr std::array<int16_t, kCodePoints> MakeCodePointToByte() {
  std::array<int16_t, kCodePoints> table{};
  for (auto& entry : table) entry = -1;
  for (int byte = 0; byte < 256; ++byte) table[kByteToCodePoint[byte]] = static_cast<int16_t>(byte);
  return table;
}

constexpr std::array<int16_t, kCodePoints> kCodePointToByte = MakeCodePointToByte();

}  // namespace

int DecodeByteAlphabet(std::string_view spelled, char* out) {
  int count = 0;
  for (size_t i = 0; i < spelled.size(); ++i) {
    uint32_t code_point = static_cast<uint8_t>(spelled[i]);
    if (code_point >= 0x80) {  // every character of the alphabet beyond ASCII has two bytes: C2..C5, 80..BF
      if (code_point < 0xC2 || code_point > 0xC5 || i + 1 == spelled.size()) return -1;
      const uint32_t second = static_cast<uint8_t>(spelled[++i]);
      if ((second & 0xC0) != 0x80) return -1;
      code_point = ((code_point & 0x1F) << 6) | (second & 0x3F);
    }
    if (code_point >= kCodePoints || kCodePointToByte[code_point] < 0) return -1;
    out[count++] = static_cast<char>(kCodePointToByte[code_point]);
  }
  return count;
}

std::string EncodeByteAlphabet(std::string_view bytes) {
  std::string spelled;
  for (const char c : bytes) {
    const uint32_t code_point = kByteToCodePoint[static_cast<uint8_t>(c)];
    if (code_point < 0x80) {
      spelled += static_cast<char>(code_point);
    } else {
      spelled += static_cast<char>(0xC0 | (code_point >> 6));
      spelled += static_cast<char>(0x80 | (code_point & 0x3F));
    }
  }
  return spelled;
}

}  // namespace preheat::tokenizer
