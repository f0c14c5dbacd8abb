// libFuzzer: any bytes as tokenizer.json. What is accepted gives the same ids after serializing and back, and
// text comes back from its ids where every byte has a token.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/error.h"
#include "tokenizer/tokenizer.h"

namespace {

constexpr std::string_view kText = "Abc's  12345\n\r\n \xC3\xA9<s><|eot_id|>\xF0\x9F\x99\x82\xFF aaab";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  try {
    const std::string_view json(reinterpret_cast<const char*>(data), size);
    const auto tokenizer = tokenizer::Tokenizer::Parse(json, "fuzz");
    const std::string image = tokenizer.Serialize();
    const auto again = tokenizer::Tokenizer::FromSerialized(image, "fuzz");
    CHECK(again.Serialize() == image);
    for (const bool parse_special : {false, true}) {
      const tokenizer::EncodeOptions options{.parse_special = parse_special};
      const auto ids = tokenizer.Encode(kText, options);
      CHECK(again.Encode(kText, options) == ids);
      (void)tokenizer.Decode(ids);
    }
  } catch (const base::Error&) {
  }
  return 0;
}
