// Where compiled things come from: the store on disk, an artifact, or several of them in order. Who reads
// (session, preload) does not know which. Sources hold bytes and keys only: nothing in an entry is run or
// trusted before its reader has checked it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/key.h"

namespace preheat::store {

enum class EntryKind {
  kCode,       // machine code (sys/code_image.h); its key is the SHA-256 of its bytes
  kCompile,    // compile key -> hash of the code and the compiler's report
  kProgram,    // program key -> program
  kTuning,     // region, shape, device model -> winning schedule
  kTokenizer,  // tokenizer, prepared for a fast start
};
inline constexpr int kEntryKinds = 5;

// "code", "compile", "program", "tuning", "tokenizer"
std::string_view EntryKindName(EntryKind kind);
std::optional<EntryKind> ParseEntryKind(std::string_view name);

// Bytes that are either owned or borrowed from the source they came from (and live as long as it does).
class EntryBytes {
 public:
  static EntryBytes Own(std::vector<std::byte> bytes);
  // As Own, without the first `offset` bytes: an entry read together with its header.
  static EntryBytes OwnPart(std::vector<std::byte> bytes, size_t offset);
  static EntryBytes Borrow(std::span<const std::byte> bytes);

  EntryBytes(EntryBytes&&) = default;
  EntryBytes& operator=(EntryBytes&&) = default;

  std::span<const std::byte> span() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  size_t size() const { return bytes_.size(); }

 private:
  EntryBytes() = default;
  std::vector<std::byte> owned_;  // moving a vector keeps its buffer, so bytes_ stays valid
  std::span<const std::byte> bytes_;
};

struct EntryInfo {
  EntryKind kind = EntryKind::kCode;
  std::string name;            // 64 hex digits
  std::vector<KeyPart> parts;  // empty where the key is a hash of the bytes
  uint64_t size_bytes = 0;
};

class EntrySource {
 public:
  virtual ~EntrySource() = default;
  // The bytes under this key, checked against their hash; nothing where there are none or they are damaged.
  // Thread-safe.
  virtual std::optional<EntryBytes> Get(EntryKind kind, std::string_view name) = 0;
  // True where Get would return something; cheaper where a source knows without reading. Thread-safe.
  virtual bool Has(EntryKind kind, std::string_view name) { return Get(kind, name).has_value(); }
  // What there is of a kind, in order of names. May read the disk: for explanations, not for lookups.
  virtual std::vector<EntryInfo> List(EntryKind kind) = 0;
};

// Asks each source in turn; the first that has the entry answers. Does not own them.
class SourceChain final : public EntrySource {
 public:
  explicit SourceChain(std::vector<EntrySource*> sources) : sources_(std::move(sources)) {}
  std::optional<EntryBytes> Get(EntryKind kind, std::string_view name) override;
  bool Has(EntryKind kind, std::string_view name) override;
  std::vector<EntryInfo> List(EntryKind kind) override;

 private:
  std::vector<EntrySource*> sources_;
};

// The entry that shares most with a key that was not found: explains a miss.
struct NearestEntry {
  EntryInfo entry;
  std::vector<PartDifference> differences;  // ours: the key asked for; theirs: the entry's
};
// Nothing where the source has no entry of the kind. The first of equals in order of names.
std::optional<NearestEntry> FindNearest(EntrySource& source, EntryKind kind, const Key& key);

}  // namespace preheat::store
