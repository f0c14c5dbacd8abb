// libFuzzer: any bytes as an entry file of the store. The first byte is the kind that is looked for.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "store/entry_file.h"
#include "store/key.h"

namespace {

using namespace preheat;

// The hash and the name would stop every mutation at the gate: both are made right first.
void ParseWithRightHash(std::span<const std::byte> bytes, store::EntryKind kind) {
  if (bytes.size() < store::kEntryHeaderSize) return;
  std::vector<std::byte> file(bytes.begin(), bytes.end());
  const std::span<const std::byte> rest = bytes.subspan(store::kEntryHeaderSize);
  base::Sha256Stream stream;
  stream.Update(bytes.first(24));
  stream.Update(rest);
  const base::Digest digest = stream.Finish();
  std::memcpy(file.data() + 24, digest.data(), digest.size());
  uint32_t parts_size;
  std::memcpy(&parts_size, file.data() + 12, sizeof parts_size);
  if (parts_size > rest.size()) return;
  const auto named = parts_size == 0 ? rest : rest.first(parts_size);
  const auto name = base::Sha256Hex({reinterpret_cast<const char*>(named.data()), named.size()});
  const store::EntryFile entry = store::ParseEntryFile(file, kind, name);
  CHECK(entry.payload_offset + entry.payload.size() == file.size());
  if (!entry.parts.empty()) CHECK(store::KeyName(entry.parts) == name);
  (void)store::DescribeParts(entry.parts);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto kind = static_cast<store::EntryKind>(data[0] % store::kEntryKinds);
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  try {
    (void)store::ParseEntryFile(bytes, kind, "0");
  } catch (const base::Error&) {
  }
  try {
    ParseWithRightHash(bytes, kind);
  } catch (const base::Error&) {
  }
  return 0;
}
