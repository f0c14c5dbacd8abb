// Any bytes: opened, every entry read. Must throw Error or succeed.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "artifact/artifact.h"
#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace preheat;
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  // The hash would stop nearly every mutation at the gate: the manifest's own reader gets the bytes, too.
  try {
    artifact::ManifestFromJson({reinterpret_cast<const char*>(data), size});
  } catch (const base::Error&) {
  }
  try {
    auto artifact = artifact::Artifact::FromBytes({begin, size});
    for (const auto& entry : artifact.manifest().entries) artifact.Get(entry.kind, entry.name);
  } catch (const base::Error&) {
  }
  return 0;
}
