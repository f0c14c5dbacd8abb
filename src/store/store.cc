#include "store/store.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <tuple>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "store/entry_file.h"
#include "sys/atomic_file.h"
#include "sys/env.h"
#include "sys/files.h"
#include "sys/os_error.h"

namespace preheat::store {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::string_view kVersionFolder = "v1";

bool IsName(std::string_view name) {
  return name.size() == 64 &&
         std::ranges::all_of(name, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

// Nothing where there is no such file; throws for other failures. The size is only a hint: the file may have
// been replaced between looking and opening.
std::optional<std::vector<std::byte>> ReadWhole(const std::string& path) {
  const auto info = sys::GetFileInfo(path);
  if (!info || !info->is_file) return std::nullopt;
  File file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) {
    if (errno == ENOENT) return std::nullopt;  // pruned meanwhile
    throw sys::OsError(errno, "cannot open", path);
  }
  std::setvbuf(file.get(), nullptr, _IONBF, 0);
  std::vector<std::byte> bytes(info->size_bytes + 1);
  size_t used = 0;
  while (size_t got = std::fread(bytes.data() + used, 1, bytes.size() - used, file.get())) {
    used += got;
    if (used == bytes.size()) bytes.resize(2 * used);
  }
  if (std::ferror(file.get()) != 0) throw sys::OsError(errno, "cannot read", path);
  bytes.resize(used);
  return bytes;
}

// Not synced: a cache can lose an entry, and a sync costs more than a compile.
void WriteEntry(const std::string& path, std::span<const std::byte> prefix,
                std::span<const std::byte> payload) {
  sys::MakeDirs(sys::ParentPath(path));
  sys::AtomicFile file(path);
  file.Write(prefix);
  file.Write(payload);
  file.Commit(sys::Sync::kNone);
}

std::vector<std::string> ListOrNothing(const std::string& folder) {
  if (!sys::IsFolder(folder)) return {};
  try {
    return sys::ListDir(folder);
  } catch (const Error&) {
    return {};  // removed or forbidden meanwhile: nothing to see
  }
}

}  // namespace

std::string Store::DefaultFolder() {
  if (const auto folder = sys::GetEnv("PREHEAT_CACHE_DIR")) return sys::ExpandUser(*folder);
  if (const auto folder = sys::GetEnv("XDG_CACHE_HOME")) return sys::JoinPath(*folder, "preheat");
  return sys::JoinPath(sys::HomeDir(), ".cache/preheat");
}

std::string Store::PathOf(EntryKind kind, std::string_view name) const {
  return fmt::format("{}/{}/{}/{}/{}", folder_, kVersionFolder, EntryKindName(kind), name.substr(0, 2), name);
}

std::optional<EntryBytes> Store::Get(EntryKind kind, std::string_view name) {
  CHECK(IsName(name));
  std::optional<EntryBytes> bytes = ReadChecked(kind, name);
  std::lock_guard lock(mutex_);
  StoreCounters& counters = counters_[static_cast<size_t>(kind)];
  ++(bytes ? counters.hits : counters.misses);
  return bytes;
}

std::optional<EntryBytes> Store::ReadChecked(EntryKind kind, std::string_view name) {
  {
    std::lock_guard lock(mutex_);
    const auto found = memory_.find(MemoryKey(kind, name));
    // Copied: another thread may put the same key again while the caller reads.
    if (found != memory_.end()) return EntryBytes::Own(found->second.payload);
  }
  if (folder_.empty()) return std::nullopt;
  const std::string path = PathOf(kind, name);
  try {
    std::optional<std::vector<std::byte>> file = ReadWhole(path);
    if (!file) return std::nullopt;
    const size_t payload_offset = ParseEntryFile(*file, kind, name).payload_offset;
    MarkUsed(path);
    return EntryBytes::OwnPart(std::move(*file), payload_offset);
  } catch (const Error& error) {
    ReportDamage(kind, path, error);
    return std::nullopt;
  }
}

void Store::MarkUsed(const std::string& path) {
  try {
    sys::Touch(path);
  } catch (const Error&) {
    // A read-only folder keeps no order of use, and nobody can prune it either.
  }
}

void Store::ReportDamage(EntryKind kind, const std::string& path, const Error& error) {
  const bool damaged = error.kind() == ErrorKind::kCorrupt;
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    if (damaged) ++counters_[static_cast<size_t>(kind)].damaged;
    first = !std::exchange(damage_reported_, true);
  }
  if (first) {
    base::Warn("cache entry {}: {}; {}", path, error.message(),
               damaged ? "it is removed and made again" : "it is not used");
  }
  if (!damaged) return;
  try {
    sys::RemoveFile(path);
  } catch (const Error&) {
    // A read-only folder keeps it; it stays a miss.
  }
}

std::vector<EntryInfo> Store::List(EntryKind kind) {
  std::map<std::string, EntryInfo> entries;
  if (!folder_.empty()) {
    const std::string top = fmt::format("{}/{}/{}", folder_, kVersionFolder, EntryKindName(kind));
    for (const std::string& part : ListOrNothing(top)) {
      for (const std::string& name : ListOrNothing(sys::JoinPath(top, part))) {
        if (!IsName(name)) continue;
        try {
          const auto file = ReadWhole(PathOf(kind, name));
          if (!file) continue;
          EntryFile entry = ParseEntryFile(*file, kind, name);
          entries[name] = {kind, name, std::move(entry.parts), entry.payload.size()};
        } catch (const Error&) {
          // Get reports damage; a list only leaves it out.
        }
      }
    }
  }
  std::lock_guard lock(mutex_);
  for (const auto& [key, entry] : memory_) {
    if (key.first == kind) entries[key.second] = {kind, key.second, entry.parts, entry.payload.size()};
  }
  std::vector<EntryInfo> list;
  for (auto& [name, info] : entries) list.push_back(std::move(info));
  return list;
}

void Store::Put(EntryKind kind, const Key& key, std::span<const std::byte> payload) {
  CHECK(kind != EntryKind::kCode);  // code is named by its bytes: PutCode
  CHECK(!key.parts().empty());
  PutNamed(kind, key.name(), key.parts(), payload);
}

void Store::Put(EntryKind kind, const Key& key, std::string_view payload) {
  Put(kind, key, AsBytes(payload));
}

std::string Store::PutCode(std::span<const std::byte> code) {
  std::string name = base::Sha256Hex(code);
  PutNamed(EntryKind::kCode, name, {}, code);
  return name;
}

void Store::PutNamed(EntryKind kind, std::string_view name, const std::vector<KeyPart>& parts,
                     std::span<const std::byte> payload) {
  bool to_disk = false;
  {
    std::lock_guard lock(mutex_);
    ++counters_[static_cast<size_t>(kind)].writes;
    to_disk = writable_ && !folder_.empty();
  }
  if (to_disk) {
    try {
      WriteEntry(PathOf(kind, name), MakeEntryPrefix(kind, parts, payload), payload);
      return;
    } catch (const Error& error) {
      ReportUnwritable(error.message());
    }
  }
  std::lock_guard lock(mutex_);
  memory_[MemoryKey(kind, name)] = {parts, {payload.begin(), payload.end()}};
}

void Store::ReportUnwritable(std::string_view reason) {
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(writable_, false)) return;
  }
  base::Warn("cache folder {}: {}; going on without it (set PREHEAT_CACHE_DIR to another folder)", folder_,
             reason);
}

uint64_t Store::Prune(uint64_t max_bytes) {
  struct Used {
    int64_t when_ns;
    uint64_t bytes;
    std::string path;
  };
  if (folder_.empty()) return 0;
  std::vector<Used> files;
  uint64_t total = 0;
  uint64_t removed = 0;
  for (int kind = 0; kind < kEntryKinds; ++kind) {
    const std::string top =
        fmt::format("{}/{}/{}", folder_, kVersionFolder, EntryKindName(static_cast<EntryKind>(kind)));
    for (const std::string& part : ListOrNothing(top)) {
      const std::string folder = sys::JoinPath(top, part);
      removed += sys::RemoveAbandonedFiles(folder);
      for (const std::string& name : ListOrNothing(folder)) {
        const std::string path = sys::JoinPath(folder, name);
        const auto info = sys::GetFileInfo(path);
        if (!IsName(name) || !info || !info->is_file) continue;
        files.push_back({info->modified_ns, info->size_bytes, path});
        total += info->size_bytes;
      }
    }
  }
  std::ranges::sort(files, [](const Used& a, const Used& b) {
    return std::tie(a.when_ns, a.path) < std::tie(b.when_ns, b.path);
  });
  for (const Used& file : files) {
    if (total <= max_bytes) break;
    sys::RemoveFile(file.path);
    total -= file.bytes;
    removed += file.bytes;
  }
  return removed;
}

StoreCounters Store::counters(EntryKind kind) const {
  std::lock_guard lock(mutex_);
  return counters_[static_cast<size_t>(kind)];
}

StoreCounters Store::counters() const {
  std::lock_guard lock(mutex_);
  StoreCounters sum;
  for (const StoreCounters& counters : counters_) {
    sum.hits += counters.hits;
    sum.misses += counters.misses;
    sum.damaged += counters.damaged;
    sum.writes += counters.writes;
  }
  return sum;
}

}  // namespace preheat::store
