// The artifact: the store's entries for one model in one file. docs/format.md documents every byte.
//
// Opening checks all of it before anything is used: magic, version, sizes, that entries lie inside the file
// and apart from each other, that what lies between them is zero, and the SHA-256 of every entry. Damage is
// kCorrupt, a newer format kIncompatible. Nothing in an artifact is run or trusted by reading it. One check
// may be put off: a tokenizer, most of a file by far, is then checked by Get, on the thread that wants it.
//
// The file is read into private memory, not mapped: what was checked cannot be changed afterwards by another
// process, nor can a file that is cut short raise SIGBUS. Code is copied into executable memory anyway.
// An open artifact is immutable and thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "artifact/manifest.h"
#include "store/entry_source.h"
#include "sys/files.h"

namespace preheat::artifact {

using PublicKey = std::array<uint8_t, 32>;  // ed25519

struct Signature {
  PublicKey signer{};
  std::array<uint8_t, 64> value{};
};

class Artifact final : public store::EntrySource {
 public:
  Artifact(Artifact&&) = default;
  Artifact& operator=(Artifact&&) = default;

  enum class Check { kAll, kAllButTokenizers };

  // Throws kNotFound, kCorrupt, kIncompatible, kIo, kAccessDenied; the message starts with the path.
  static Artifact Open(const std::string& path, Check check = Check::kAll);
  static Artifact FromBytes(std::span<const std::byte> bytes);
  // Header and manifest only, both checked: nothing is known about the payload. Reads no more than it needs.
  static Manifest ReadManifest(const std::string& path);

  const Manifest& manifest() const { return manifest_; }
  uint64_t size_bytes() const { return bytes_.size; }
  // What is signed: the header and the manifest (which holds the hash of every entry).
  std::span<const std::byte> signed_bytes() const;
  // Not verified by Open: see signature.h.
  const std::optional<Signature>& signature() const { return signature_; }

  // Borrowed from this artifact, or owned where it is compressed. Throws kCorrupt where an entry's check was
  // put off and fails, or where a compressed entry, whose stored bytes are as signed, does not decompress to
  // what it says: only a broken writer does that.
  std::optional<store::EntryBytes> Get(store::EntryKind kind, std::string_view name) override;
  bool Has(store::EntryKind kind, std::string_view name) override { return Find(kind, name) != nullptr; }
  std::vector<store::EntryInfo> List(store::EntryKind kind) override;

 private:
  Artifact() = default;
  static Artifact FromOwned(sys::OwnedBytes bytes, Check check);
  std::span<const std::byte> StoredBytes(const ManifestEntry& entry) const;
  // Null where there is none.
  const ManifestEntry* Find(store::EntryKind kind, std::string_view name) const;
  bool IsCheckedByGet(const ManifestEntry& entry) const;

  sys::OwnedBytes bytes_;
  std::span<const std::byte> payload_;  // of bytes_
  Check check_ = Check::kAll;
  size_t signed_size_ = 0;
  Manifest manifest_;
  std::optional<Signature> signature_;
};

}  // namespace preheat::artifact
