// libFuzzer: any bytes as a code image. What is accepted lies within the bytes and survives writing and
// reading.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "sys/code_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const sys::CodeImageView view = sys::ParseCodeImage(bytes);
    sys::CodeImage image{.target = std::string(view.target), .alignment = view.alignment};
    image.body.assign(view.body.begin(), view.body.end());
    for (const auto& entry : view.entries) {
      CHECK(entry.offset < view.body.size());
      image.entries.push_back({std::string(entry.name), entry.offset});
    }
    CHECK(std::ranges::equal(sys::SerializeCodeImage(image), bytes));
  } catch (const base::Error&) {
  }
  return 0;
}
