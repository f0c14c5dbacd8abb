// libFuzzer: any bytes as the object file that a compiler wrote. What is accepted is a code image.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "sys/code_image.h"
#include "toolchain/object_image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  try {
    const sys::CodeImage image =
        toolchain::ImageFromObject(std::as_bytes(std::span(data, size)), "x86-64-v3");
    (void)sys::ParseCodeImage(sys::SerializeCodeImage(image));
  } catch (const base::Error& error) {
    // An image of ours that does not read back is a bug, whatever the object was.
    if (error.kind() == base::ErrorKind::kCorrupt) throw;
  }
  return 0;
}
