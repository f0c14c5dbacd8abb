// libFuzzer: FromJson is total, and what it accepts survives writing and reading again.
#include "base/check.h"
#include "base/error.h"
#include "program/program.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const program::Program program = program::FromJson(text, "fuzz");
    CHECK(program::FromJson(program::ToJson(program), "fuzz") == program);
  } catch (const base::Error&) {
  }
  return 0;
}
