#include "tokenizer/utf8.h"

#include <cstring>

namespace preheat::tokenizer {
namespace {

// The lead byte decides the length and the range of the second byte; all further bytes are 80..BF.
struct LeadByte {
  size_t length;  // 0: not a lead byte
  uint8_t second_low;
  uint8_t second_high;
};

LeadByte ClassifyLead(uint8_t lead) {
  if (lead < 0xC2) return {0, 0, 0};
  if (lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};  // below A0: overlong
  if (lead == 0xED) return {3, 0x80, 0x9F};  // above 9F: surrogates
  if (lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};  // below 90: overlong
  if (lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};  // above 8F: beyond U+10FFFF
  return {0, 0, 0};
}

// The number of bytes at the start of `text` that are ASCII, in steps of 8.
size_t AsciiPrefix(std::string_view text) {
  size_t at = 0;
  while (at + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if (word & 0x8080808080808080u) break;
    at += 8;
  }
  return at;
}

bool IsContinuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0) == 0x80;
}

}  // namespace

Utf8Step NextUtf8(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return {Utf8Status::kComplete, lead, 1};
  const LeadByte expected = ClassifyLead(lead);
  if (expected.length == 0) return {Utf8Status::kInvalid, 0, 1};
  uint32_t code_point = lead & (0x7Fu >> expected.length);
  for (size_t i = 1; i < expected.length; ++i) {
    if (i == text.size()) return {Utf8Status::kIncomplete, 0, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t low = i == 1 ? expected.second_low : 0x80;
    const uint8_t high = i == 1 ? expected.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Status::kInvalid, 0, i};
    code_point = (code_point << 6) | (byte & 0x3Fu);
  }
  return {Utf8Status::kComplete, code_point, expected.length};
}

bool IsValidUtf8(std::string_view text) {
  while (true) {
    text.remove_prefix(AsciiPrefix(text));
    if (text.empty()) return true;
    const Utf8Step step = NextUtf8(text);
    if (step.status != Utf8Status::kComplete) return false;
    text.remove_prefix(step.bytes);
  }
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string pending(text);
  std::string out;
  TakeDecidedUtf8(&pending, &out);
  if (!pending.empty()) out += kReplacementCharacter;
  return out;
}

void TakeDecidedUtf8(std::string* pending, std::string* out) {
  std::string_view rest = *pending;
  while (!rest.empty()) {
    const Utf8Step step = NextUtf8(rest);
    if (step.status == Utf8Status::kIncomplete) break;
    if (step.status == Utf8Status::kComplete) {
      out->append(rest.substr(0, step.bytes));
    } else {
      out->append(kReplacementCharacter);
    }
    rest.remove_prefix(step.bytes);
  }
  pending->erase(0, pending->size() - rest.size());
}

bool IsBlank(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t LeadingBlankBytes(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = NextUtf8(text.substr(at));
    if (step.status != Utf8Status::kComplete || !IsBlank(step.code_point)) break;
    at += step.bytes;
  }
  return at;
}

size_t TrailingBlankBytes(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && IsContinuation(text[begin])) --begin;
    const Utf8Step step = NextUtf8(text.substr(begin, end - begin));
    if (step.status != Utf8Status::kComplete || !IsBlank(step.code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

std::string_view TrimBlanks(std::string_view text) {
  text.remove_prefix(LeadingBlankBytes(text));
  text.remove_suffix(TrailingBlankBytes(text));
  return text;
}

}  // namespace preheat::tokenizer
