// Artifacts for tests: a small sample, and files put together by hand, with hashes that fit what is wrong.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "artifact/artifact.h"
#include "artifact/layout.h"
#include "artifact/writer.h"
#include "base/hash.h"

namespace preheat::artifact {

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline store::Key SampleKey(std::string_view target) {
  return store::KeyBuilder().Add("target", target).Add("dtype", "bf16").Build();
}

inline Manifest SampleDescription() {
  Manifest manifest;
  manifest.model = {"tiny-instruct", std::string(64, 'a')};
  manifest.purpose.targets = {"x86-64-v4", "x86-64-v3"};
  manifest.purpose.prefill_lengths = {256, 128};
  manifest.purpose.decode_length = 128;
  manifest.purpose.dtype = "bf16";
  manifest.purpose.mode = "default";
  manifest.purpose.dynamic = "auto";
  manifest.purpose.cache_implementation = "static";
  manifest.makers = {{{"preheat", "0.1.0"}, {"abi", "1"}}, {"gcc version 12.2.0, x86_64-linux-gnu"}};
  manifest.notes = {{"made", "by a \"test\""}};
  return manifest;
}

inline const std::string kLongProgram = std::string(5000, 'p') + "end";

inline ArtifactWriter SampleWriter() {
  ArtifactWriter writer(SampleDescription());
  writer.AddCode("x86-64-v3", AsBytes("code that does not compress"));
  writer.Add(store::EntryKind::kProgram, SampleKey("x86-64-v3"), "x86-64-v3", kLongProgram);
  writer.Add(store::EntryKind::kTuning, SampleKey("x86-64-v4"), "", "");
  return writer;
}

// A file whose header fits its manifest, whatever that says.
inline std::vector<std::byte> Assemble(std::string_view manifest, std::string_view payload) {
  std::vector<std::byte> file(AlignEntry(kHeaderSize + manifest.size()));
  const uint32_t version = kFormatVersion;
  const uint64_t manifest_size = manifest.size();
  const uint64_t file_size = file.size() + payload.size();
  const base::Digest digest = base::Sha256(manifest);
  std::memcpy(file.data(), kMagic.data(), kMagic.size());
  std::memcpy(file.data() + kVersionAt, &version, sizeof version);
  std::memcpy(file.data() + kManifestSizeAt, &manifest_size, sizeof manifest_size);
  std::memcpy(file.data() + kFileSizeAt, &file_size, sizeof file_size);
  std::memcpy(file.data() + kManifestHashAt, digest.data(), digest.size());
  std::memcpy(file.data() + kHeaderSize, manifest.data(), manifest.size());
  const auto bytes = AsBytes(payload);
  file.insert(file.end(), bytes.begin(), bytes.end());
  return file;
}

}  // namespace preheat::artifact
