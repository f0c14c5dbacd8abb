// The manifest of an artifact: what it was made from, for and with, and what lies where in it. Canonical
// JSON: keys sorted, no blanks, so that equal manifests are equal bytes. docs/format.md lists every field.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "store/entry_source.h"

namespace preheat::artifact {

inline constexpr uint32_t kFormatVersion = 1;

struct ModelRecord {
  std::string id;           // as the user named it, without folders; for people only
  std::string config_hash;  // 64 hex digits: identifies the model, never its weights
};

struct Purpose {
  std::vector<std::string> targets;      // sorted
  std::vector<int64_t> prefill_lengths;  // sorted
  int64_t decode_length = 0;
  int64_t batch_size = 1;
  std::string dtype;
  std::string mode;
  std::string dynamic;               // "auto", "true", "false"
  std::string cache_implementation;  // "static", ...
};

// Names to versions: "preheat", "abi", "program", ... and the identities of the compilers used.
struct Makers {
  std::map<std::string, std::string> versions;
  std::vector<std::string> toolchains;  // sorted
};

enum class Encoding { kRaw, kZstd };

struct ManifestEntry {
  store::EntryKind kind = store::EntryKind::kCode;
  std::string name;          // the key: 64 hex digits
  std::string target;        // empty: for every target
  uint64_t offset = 0;       // from the payload's begin, a multiple of 16
  uint64_t size = 0;         // bytes as Get gives them
  uint64_t stored_size = 0;  // bytes in the file
  Encoding encoding = Encoding::kRaw;
  std::string sha256;  // of the stored bytes
  std::vector<store::KeyPart> parts;

  // The value of the key's part with this label; empty where it has none.
  std::string Part(std::string_view label) const;
};

struct Manifest {
  ModelRecord model;
  Purpose purpose;
  Makers makers;
  std::map<std::string, std::string> notes;  // the caller's own, e.g. when and with which options
  std::vector<ManifestEntry> entries;        // sorted by kind, then name
};

std::string ManifestToJson(const Manifest& manifest);
// Throws kCorrupt for text that is not such a manifest, naming the field. Offsets are not checked here.
Manifest ManifestFromJson(std::string_view json);

}  // namespace preheat::artifact
