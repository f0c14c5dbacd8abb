// libFuzzer target: any bytes as config.json and generation_config.json.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "checkpoint/config.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/rope.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto config = preheat::checkpoint::ParseModelConfig(text, "fuzz");
    (void)preheat::checkpoint::InvFreq(config);
    (void)config.ParameterCount();
    (void)preheat::checkpoint::ConfigHash(config);
  } catch (const preheat::base::Error&) {
  }
  try {
    (void)preheat::checkpoint::ParseGenerationConfig(text, "fuzz");
  } catch (const preheat::base::Error&) {
  }
  return 0;
}
