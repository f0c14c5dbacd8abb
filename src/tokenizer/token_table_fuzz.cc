// libFuzzer: any bytes as the tokenizer tables of an artifact, their checksum made right: what is accepted
// must be safe to use.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  using Header = tokenizer::TokenTable::Header;
  std::string image(reinterpret_cast<const char*>(data), size);
  if (image.size() >= sizeof(Header)) {
    const uint64_t image_bytes = image.size();
    std::memcpy(image.data() + offsetof(Header, image_bytes), &image_bytes, sizeof image_bytes);
    const uint64_t checksum = tokenizer::TokenTable::Checksum(image);
    std::memcpy(image.data() + offsetof(Header, checksum), &checksum, sizeof checksum);
  }
  try {
    const auto tokenizer = tokenizer::Tokenizer::FromSerialized(image, "fuzz");
    const auto ids =
        tokenizer.Encode("Abc's  12345\n \xC3\xA9<s>\xF0\x9F\x99\x82 aaab", {.parse_special = true});
    (void)tokenizer.Decode(ids);
    (void)tokenizer.TokenId("abc");
    for (int32_t id = -1; id <= tokenizer.vocab_size(); ++id) (void)tokenizer.TokenBytes(id);
  } catch (const base::Error&) {
  }
  return 0;
}
