// UTF-8 by the book (Unicode 15, table 3-7): what is complete, what can never become valid, what only lacks
// its end. Invalid bytes are replaced by U+FFFD, one for each "maximal subpart", as Rust's from_utf8_lossy
// and Python's errors="replace" do. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace preheat::tokenizer {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8Status {
  kComplete,    // a whole character
  kInvalid,     // bytes that no continuation makes valid: they stand for one U+FFFD
  kIncomplete,  // the text ends inside a character that more bytes could complete
};

struct Utf8Step {
  Utf8Status status;
  uint32_t code_point;  // only with kComplete
  size_t bytes;         // how many bytes this is about, at least 1
};

// What stands at the start of `text`. REQUIRES: text is not empty.
Utf8Step NextUtf8(std::string_view text);

bool IsValidUtf8(std::string_view text);

// `text` with every invalid or incomplete part replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);

// Moves everything that is decided from `pending` to `out`: whole characters as they are, invalid parts as
// U+FFFD. What is left in `pending` is at most 3 bytes that more bytes could complete.
void TakeDecidedUtf8(std::string* pending, std::string* out);

// What Python's str.strip() removes: Unicode White_Space and U+001C to U+001F.
bool IsBlank(uint32_t code_point);

// `text` without leading and trailing blanks. REQUIRES: valid UTF-8.
std::string_view TrimBlanks(std::string_view text);

// Length in bytes of the blanks at the start of `text`. REQUIRES: valid UTF-8.
size_t LeadingBlankBytes(std::string_view text);
// Length in bytes of the blanks at the end of `text`. REQUIRES: valid UTF-8.
size_t TrailingBlankBytes(std::string_view text);

}  // namespace preheat::tokenizer
