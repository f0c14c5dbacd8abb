// The store: content-addressed bytes in a folder, shared by all processes of a user.
//
// On disk: FOLDER/v1/KIND/NN/NAME, NN being the first two digits of NAME. An entry file (little-endian):
//   0   8   magic "PHENTRY\1"; the last byte is the version
//   8   4   kind (EntryKind)
//   12  4   parts_size: bytes of the key's canonical text (store/key.h), 0 for code
//   16  8   payload_size
//   24  32  SHA-256 over bytes 0..23, the parts text and the payload
//   56  ..  parts text, payload
// A file is written beside its place and renamed into it (sys/atomic_file.h), so a reader sees the old entry,
// the new one, or none; two writers of one key write the same bytes. No fsync: what a power cut leaves is
// found by the hash.
//
// Damage is a miss: the file is removed, a warning is given once. A folder that cannot be written (full,
// read-only) is said once; what is put then lives in memory, so that this process still finds it.
// Thread-safe; any number of processes may use one folder.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "store/entry_source.h"
#include "store/key.h"

namespace preheat::store {

struct StoreCounters {
  int64_t hits = 0;
  int64_t misses = 0;  // damaged entries included
  int64_t damaged = 0;
  int64_t writes = 0;  // to disk or, where the disk refuses, to memory
};

class Store final : public EntrySource {
 public:
  // Opens without touching the disk; the folder is made by the first Put.
  explicit Store(std::string folder) : folder_(std::move(folder)) {}
  // Keeps everything in memory: for tests and for runs that must leave nothing behind.
  static Store InMemory() { return Store(); }

  // $PREHEAT_CACHE_DIR, else $XDG_CACHE_HOME/preheat, else ~/.cache/preheat. Throws kNotFound where none of
  // the three variables is set (HOME for the last).
  static std::string DefaultFolder();

  std::optional<EntryBytes> Get(EntryKind kind, std::string_view name) override;
  std::vector<EntryInfo> List(EntryKind kind) override;

  // Puts `payload` under `key`, replacing what was there. Never throws for a disk that refuses.
  void Put(EntryKind kind, const Key& key, std::span<const std::byte> payload);
  void Put(EntryKind kind, const Key& key, std::string_view payload);
  // Puts machine code under the hash of its bytes, which is returned.
  std::string PutCode(std::span<const std::byte> code);

  // Removes what killed writers left, then entries, those unused for longest first, until at most `max_bytes`
  // are left. Returns the bytes removed. A hit counts as use.
  uint64_t Prune(uint64_t max_bytes);

  StoreCounters counters() const;
  StoreCounters counters(EntryKind kind) const;
  // Empty for a store in memory.
  const std::string& folder() const { return folder_; }

 private:
  using MemoryKey = std::pair<EntryKind, std::string>;
  struct MemoryEntry {
    std::vector<KeyPart> parts;
    std::vector<std::byte> payload;
  };

  Store() = default;
  std::string PathOf(EntryKind kind, std::string_view name) const;
  std::optional<EntryBytes> ReadChecked(EntryKind kind, std::string_view name);
  void PutNamed(EntryKind kind, std::string_view name, const std::vector<KeyPart>& parts,
                std::span<const std::byte> payload);
  void MarkUsed(const std::string& path);
  void ReportDamage(EntryKind kind, const std::string& path, const base::Error& error);
  void ReportUnwritable(std::string_view reason);

  std::string folder_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<MemoryKey, MemoryEntry> memory_;
  std::array<StoreCounters, kEntryKinds> counters_;
  bool writable_ = true;
  bool damage_reported_ = false;
};

}  // namespace preheat::store
