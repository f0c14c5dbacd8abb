#include "base/json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace preheat::base {
namespace {

// An escape can name half of a surrogate pair, which the parser takes where it is the second half. It then
// stands as three bytes, which are no UTF-8: ED A0 80 to ED BF BF.
bool HoldsSurrogate(std::string_view text) {
  if (text.empty()) return false;
  for (size_t at = text.find('\xED'); at < text.size() - 1; at = text.find('\xED', at + 1)) {
    if (static_cast<unsigned char>(text[at + 1]) >= 0xA0) return true;
  }
  return false;
}

// Passes everything on to the document; numbers come as text, their grammar already checked.
class Handler {
 public:
  Handler(rapidjson::Document& document, bool check_utf8) : document_(document), check_utf8_(check_utf8) {}

  // What stopped the parser, where that was this handler.
  rapidjson::ParseErrorCode fault() const { return fault_; }

  bool RawNumber(const char* text, rapidjson::SizeType bytes, bool) {
    const char* end = text + bytes;
    int64_t integer = 0;
    if (const auto [stop, error] = std::from_chars(text, end, integer); error == std::errc() && stop == end) {
      return document_.Int64(integer);
    }
    uint64_t natural = 0;
    if (const auto [stop, error] = std::from_chars(text, end, natural); error == std::errc() && stop == end) {
      return document_.Uint64(natural);
    }
    // Not from_chars: it does not tell too small, which is 0, from too large.
    errno = 0;
    const double value = std::strtod(std::string(text, bytes).c_str(), nullptr);
    if (errno == ERANGE && std::abs(value) > 1) return Stop(rapidjson::kParseErrorNumberTooBig);
    return document_.Double(value);
  }

  bool Null() { return document_.Null(); }
  bool Bool(bool value) { return document_.Bool(value); }
  bool Int(int value) { return document_.Int(value); }
  bool Uint(unsigned value) { return document_.Uint(value); }
  bool Int64(int64_t value) { return document_.Int64(value); }
  bool Uint64(uint64_t value) { return document_.Uint64(value); }
  bool Double(double value) { return document_.Double(value); }
  bool String(const char* text, rapidjson::SizeType bytes, bool copy) {
    return CheckText({text, bytes}) && document_.String(text, bytes, copy);
  }
  bool Key(const char* text, rapidjson::SizeType bytes, bool copy) {
    return CheckText({text, bytes}) && document_.Key(text, bytes, copy);
  }
  bool StartObject() { return document_.StartObject(); }
  bool EndObject(rapidjson::SizeType members) { return document_.EndObject(members); }
  bool StartArray() { return document_.StartArray(); }
  bool EndArray(rapidjson::SizeType elements) { return document_.EndArray(elements); }

 private:
  bool Stop(rapidjson::ParseErrorCode fault) {
    fault_ = fault;
    return false;
  }
  bool CheckText(std::string_view text) {
    return !check_utf8_ || !HoldsSurrogate(text) || Stop(rapidjson::kParseErrorStringUnicodeSurrogateInvalid);
  }

  rapidjson::Document& document_;
  bool check_utf8_;
  rapidjson::ParseErrorCode fault_ = rapidjson::kParseErrorNone;
};

template <unsigned kFlags>
std::optional<JsonFault> Parse(std::string_view text, rapidjson::Document& document) {
  rapidjson::MemoryStream stream(text.data(), text.size());
  rapidjson::Reader reader;
  Handler handler(document, (kFlags & rapidjson::kParseValidateEncodingFlag) != 0);
  rapidjson::ParseResult result;
  auto parse = [&](rapidjson::Document&) {
    result = reader.Parse<kFlags>(stream, handler);
    return !result.IsError();
  };
  document.Populate(parse);
  if (!result.IsError()) return std::nullopt;
  const auto code = handler.fault() != rapidjson::kParseErrorNone ? handler.fault() : result.Code();
  return JsonFault{rapidjson::GetParseError_En(code), result.Offset()};
}

}  // namespace

std::optional<JsonFault> ParseJson(std::string_view text, rapidjson::Document& document,
                                   const JsonOptions& options) {
  // RapidJSON takes a NUL byte for the end; JSON has none.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) return JsonFault{"A NUL byte.", nul};
  using namespace rapidjson;
  constexpr unsigned kAlways = kParseIterativeFlag | kParseNumbersAsStringsFlag;
  if (options.allow_nan_and_infinity) {
    return options.check_utf8
               ? Parse<kAlways | kParseNanAndInfFlag | kParseValidateEncodingFlag>(text, document)
               : Parse<kAlways | kParseNanAndInfFlag>(text, document);
  }
  return options.check_utf8 ? Parse<kAlways | kParseValidateEncodingFlag>(text, document)
                            : Parse<kAlways>(text, document);
}

}  // namespace preheat::base
