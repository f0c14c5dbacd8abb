// libFuzzer target: any bytes as a safetensors file. Build with the fuzz preset, run ./safetensors_fuzz
// CORPUS.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/error.h"
#include "checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto header = preheat::checkpoint::ParseSafetensors(bytes, "fuzz");
    // What was accepted lies within the file.
    for (const auto& entry : header.entries) {
      if (entry.end > size - header.data_start || entry.begin > entry.end) std::abort();
    }
  } catch (const preheat::base::Error&) {
  }
  return 0;
}
