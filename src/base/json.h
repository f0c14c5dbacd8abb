// JSON that a user or a file supplies, into a RapidJSON document. In one place, for what RapidJSON's own
// defaults do not give: depth costs no stack, a NUL byte is no end, and numbers are exact. (Its exact mode,
// kParseFullPrecisionFlag, makes an arbitrary number of a zero with many digits or a large exponent, such as
// 0e-30: DiyFp::Normalize counts the leading zeros of 0.) Free function, thread-safe.
#pragma once

#include <rapidjson/document.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace preheat::base {

struct JsonOptions {
  bool allow_nan_and_infinity = false;  // as Python writes them: NaN, Infinity
  bool check_utf8 = true;
};

struct JsonFault {
  std::string what;  // "Invalid value."
  size_t at = 0;     // byte
};

// Nothing where `text` was one JSON value, which then is `document`. Integers that fit 64 bits stay integers,
// all other numbers become the nearest double; one beyond all doubles is a fault.
std::optional<JsonFault> ParseJson(std::string_view text, rapidjson::Document& document,
                                   const JsonOptions& options = {});

}  // namespace preheat::base
