// libFuzzer: any bytes as a metadata file. What is accepted survives writing and reading again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/error.h"
#include "preload/metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const preload::Metadata metadata = preload::ParseMetadata(text, "fuzz");
    const std::string json = preload::ToJson(metadata);
    CHECK(preload::ToJson(preload::ParseMetadata(json, "fuzz")) == json);
  } catch (const base::Error&) {
  }
  return 0;
}
