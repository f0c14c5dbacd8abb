// libFuzzer: any bytes as an artifact: opened, every entry read. Must throw Error or succeed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "artifact/artifact.h"
#include "artifact/artifact_for_test.h"
#include "base/check.h"
#include "base/error.h"

namespace {

using namespace preheat;

void ReadAll(std::span<const std::byte> bytes) {
  try {
    auto artifact = artifact::Artifact::FromBytes(bytes);
    for (const auto& entry : artifact.manifest().entries) artifact.Get(entry.kind, entry.name);
  } catch (const base::Error&) {
  }
}

// The hashes would stop nearly every mutation at the gate. So the bytes are also taken for a manifest, a NUL
// and a payload, and put together with hashes that fit.
void ReadParts(std::string_view bytes) {
  const size_t end = std::min(bytes.find('\0'), bytes.size());
  const std::string_view payload = bytes.substr(std::min(end + 1, bytes.size()));
  artifact::Manifest manifest;
  try {
    manifest = artifact::ManifestFromJson(bytes.substr(0, end));
  } catch (const base::Error&) {
    return;
  }
  for (auto& entry : manifest.entries) {
    if (entry.offset > payload.size() || entry.stored_size > payload.size() - entry.offset) continue;
    entry.sha256 = base::Sha256Hex(payload.substr(entry.offset, entry.stored_size));
    if (entry.kind != store::EntryKind::kCode) {
      entry.name = store::KeyName(entry.parts);
    } else if (entry.encoding == artifact::Encoding::kRaw) {
      entry.name = entry.sha256;
    }
  }
  const std::string json = artifact::ManifestToJson(manifest);
  CHECK(artifact::ManifestToJson(artifact::ManifestFromJson(json)) == json);
  ReadAll(artifact::Assemble(json, payload));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ReadAll(std::as_bytes(std::span(data, size)));
  ReadParts({reinterpret_cast<const char*>(data), size});
  return 0;
}
