// Makes artifacts. The same entries and the same manifest data give the same bytes, in whatever order they
// were added.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "artifact/artifact.h"
#include "artifact/manifest.h"
#include "artifact/signature.h"

namespace preheat::artifact {

struct EntryRecord {
  store::EntryKind kind = store::EntryKind::kCode;
  std::string name;
  std::string target;
  std::vector<store::KeyPart> parts;
};

// An entry's bytes and what the file will hold of them. Making it is most of what writing takes, and may be
// done beside other work.
struct PackedBytes {
  std::vector<std::byte> plain;
  std::optional<std::vector<std::byte>> compressed;  // where that saves a tenth
  std::string sha256;                                // of stored()

  std::span<const std::byte> stored() const { return compressed ? *compressed : plain; }
};
PackedBytes Pack(std::span<const std::byte> bytes);
PackedBytes Pack(std::string_view bytes);

class ArtifactWriter {
 public:
  // `description`: model, purpose, makers and notes; its entries are ignored, its lists sorted.
  explicit ArtifactWriter(Manifest description);

  // Adding the same entry again is fine; other bytes under the same key are kInvalidArgument.
  // `target`: what the entry is for, empty where any target may use it.
  void Add(store::EntryKind kind, const store::Key& key, std::string_view target,
           std::span<const std::byte> bytes);
  void Add(store::EntryKind kind, const store::Key& key, std::string_view target, std::string_view bytes);
  void Add(store::EntryKind kind, const store::Key& key, std::string_view target, PackedBytes bytes);
  // Code is keyed by its own hash, which is returned.
  std::string AddCode(std::string_view target, std::span<const std::byte> code);
  // An entry as another artifact or store describes it.
  void AddNamed(const EntryRecord& record, std::span<const std::byte> bytes);
  bool Has(store::EntryKind kind, const std::string& name) const;

  // The whole file. `key`: null for an unsigned artifact. Throws kInvalidArgument where a text is not UTF-8.
  std::vector<std::byte> Finish(const SigningKey* key = nullptr) const;
  // Writes it so that `path` holds the old file or the new one, also after a crash. Returns its size.
  uint64_t WriteTo(const std::string& path, const SigningKey* key = nullptr) const;

 private:
  struct Pending {
    std::string target;
    std::vector<store::KeyPart> parts;
    PackedBytes bytes;
  };
  // False where the entry is there already. Throws as Add.
  bool IsNew(const EntryRecord& record, std::span<const std::byte> bytes) const;
  void Put(const EntryRecord& record, PackedBytes bytes);

  Manifest manifest_;
  std::map<std::pair<store::EntryKind, std::string>, Pending> entries_;
};

}  // namespace preheat::artifact
