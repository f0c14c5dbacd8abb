#include "artifact/artifact.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <tuple>

#include "artifact/layout.h"
#include "base/error.h"
#include "base/hash.h"
#include "sys/files.h"

namespace preheat::artifact {
namespace {

using base::Error;
using base::ErrorKind;
using base::MakeError;
using store::EntryKind;

base::Error Damaged(std::string_view what) {
  return MakeError(ErrorKind::kCorrupt, "the artifact is damaged: {}; build or copy it again", what);
}

template <typename T>
T GetNumber(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// kNotFound and kInvalidArgument as a user of artifacts understands them.
uint64_t SizeOf(const std::string& path) {
  const auto info = sys::GetFileInfo(path);
  if (!info) throw MakeError(ErrorKind::kNotFound, "no such artifact; make it with `preheat build`");
  if (!info->is_file) throw MakeError(ErrorKind::kInvalidArgument, "not a file");
  return info->size_bytes;
}

struct Header {
  bool is_signed = false;
  uint64_t manifest_size = 0;
  uint64_t file_size = 0;
  std::string manifest_hash;
  // Where the payload begins.
  uint64_t payload_at() const {
    return AlignEntry(kHeaderSize + manifest_size + (is_signed ? kSignatureBlockSize : 0));
  }
};

Header ParseHeader(std::span<const std::byte> bytes) {
  const size_t seen = std::min(bytes.size(), kMagic.size());
  if (seen == 0 || std::memcmp(bytes.data(), kMagic.data(), seen) != 0) {
    throw MakeError(ErrorKind::kCorrupt, "this is no preheat artifact: its magic number is wrong");
  }
  if (bytes.size() < kHeaderSize) throw Damaged("it ends within its header");
  const auto version = GetNumber<uint32_t>(bytes, kVersionAt);
  if (version == 0 || version > kFormatVersion) {
    throw MakeError(
        ErrorKind::kIncompatible,
        "the artifact has format version {}, and this preheat reads up to {}: use a newer preheat, or "
        "build the artifact again",
        version, kFormatVersion);
  }
  const auto flags = GetNumber<uint32_t>(bytes, kFlagsAt);
  if ((flags & ~kSignedFlag) != 0) throw Damaged("it has flags that its version does not know");
  Header header;
  header.is_signed = (flags & kSignedFlag) != 0;
  header.manifest_size = GetNumber<uint64_t>(bytes, kManifestSizeAt);
  header.file_size = GetNumber<uint64_t>(bytes, kFileSizeAt);
  base::Digest digest;
  std::memcpy(digest.data(), bytes.data() + kManifestHashAt, digest.size());
  header.manifest_hash = base::ToHex(digest);
  return header;
}

// REQUIRES: `bytes` holds all of the manifest.
Manifest CheckedManifest(const Header& header, std::span<const std::byte> bytes) {
  if (base::Sha256Hex(bytes) != header.manifest_hash) throw Damaged("its manifest's hash does not match");
  return ManifestFromJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// The payload must be exactly the entries, in the order of their offsets, each at the next aligned place.
void CheckPlaces(const Manifest& manifest, std::span<const std::byte> payload) {
  std::vector<const ManifestEntry*> by_offset;
  for (const ManifestEntry& entry : manifest.entries) by_offset.push_back(&entry);
  std::ranges::sort(by_offset, {},
                    [](const ManifestEntry* entry) { return std::pair(entry->offset, entry->stored_size); });
  uint64_t end = 0;
  for (const ManifestEntry* entry : by_offset) {
    const uint64_t begin = AlignEntry(end);
    if (entry->offset < end) throw Damaged(fmt::format("entry {} overlaps another", entry->name));
    if (entry->offset != begin) throw Damaged(fmt::format("entry {} lies where none may begin", entry->name));
    if (begin > payload.size() || entry->stored_size > payload.size() - begin) {
      throw Damaged(fmt::format("entry {} runs past the end of the file", entry->name));
    }
    const auto gap = payload.subspan(end, begin - end);
    if (!std::ranges::all_of(gap, [](std::byte b) { return b == std::byte{0}; })) {
      throw Damaged("there is something between its entries");
    }
    end = begin + entry->stored_size;
  }
  if (end != payload.size()) throw Damaged("there is something behind its last entry");
}

void CheckEntry(const ManifestEntry& entry, std::span<const std::byte> stored) {
  if (base::Sha256Hex(stored) != entry.sha256)
    throw Damaged(fmt::format("entry {}: hash does not match", entry.name));
  if (entry.kind == EntryKind::kCode ? !entry.parts.empty() : store::KeyName(entry.parts) != entry.name) {
    throw Damaged(fmt::format("entry {}: its key's parts do not match its name", entry.name));
  }
  switch (entry.encoding) {
    case Encoding::kRaw:
      if (entry.size != entry.stored_size) throw Damaged(fmt::format("entry {}: two sizes", entry.name));
      if (entry.kind == EntryKind::kCode && entry.sha256 != entry.name) {
        throw Damaged(fmt::format("entry {}: not the code it is named for", entry.name));
      }
      break;
    case Encoding::kZstd:
      if (entry.size > kLargestEntry ||
          ZSTD_getFrameContentSize(stored.data(), stored.size()) != entry.size) {
        throw Damaged(fmt::format("entry {}: its compressed size is wrong", entry.name));
      }
      break;
  }
}

std::vector<std::byte> Decompress(const ManifestEntry& entry, std::span<const std::byte> stored) {
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  // One a thread: making one costs more than decompressing a kernel.
  thread_local const std::unique_ptr<ZSTD_DCtx, Free> context(ZSTD_createDCtx());
  std::vector<std::byte> bytes(entry.size);
  const size_t got =
      ZSTD_decompressDCtx(context.get(), bytes.data(), bytes.size(), stored.data(), stored.size());
  if (ZSTD_isError(got) != 0 || got != bytes.size()) {
    throw Damaged(fmt::format("entry {}: it does not decompress", entry.name));
  }
  if (entry.kind == EntryKind::kCode && base::Sha256Hex(std::span<const std::byte>(bytes)) != entry.name) {
    throw Damaged(fmt::format("entry {}: not the code it is named for", entry.name));
  }
  return bytes;
}

}  // namespace

Artifact Artifact::FromBytes(std::span<const std::byte> bytes) {
  sys::OwnedBytes copy = {std::make_unique_for_overwrite<std::byte[]>(bytes.size()), bytes.size()};
  std::ranges::copy(bytes, copy.data.get());
  return FromOwned(std::move(copy), Check::kAll);
}

Artifact Artifact::FromOwned(sys::OwnedBytes bytes, Check check) {
  Artifact artifact;
  artifact.bytes_ = std::move(bytes);
  artifact.check_ = check;
  const std::span<const std::byte> all = artifact.bytes_.span();
  const Header header = ParseHeader(all);
  if (header.file_size != all.size()) {
    throw Damaged(fmt::format("{} bytes expected, {} found", header.file_size, all.size()));
  }
  if (header.manifest_size > all.size() || header.payload_at() > all.size()) {
    throw Damaged("its manifest runs past its end");
  }
  artifact.signed_size_ = kHeaderSize + header.manifest_size;
  artifact.manifest_ = CheckedManifest(header, all.subspan(kHeaderSize, header.manifest_size));
  uint64_t end = artifact.signed_size_;
  if (header.is_signed) {
    Signature& signature = artifact.signature_.emplace();
    std::memcpy(signature.signer.data(), all.data() + end, signature.signer.size());
    std::memcpy(signature.value.data(), all.data() + end + signature.signer.size(), signature.value.size());
    end += kSignatureBlockSize;
  }
  const auto gap = all.subspan(end, header.payload_at() - end);
  if (!std::ranges::all_of(gap, [](std::byte b) { return b == std::byte{0}; })) {
    throw Damaged("there is something between its manifest and its entries");
  }
  artifact.payload_ = all.subspan(header.payload_at());
  CheckPlaces(artifact.manifest_, artifact.payload_);
  const auto& entries = artifact.manifest_.entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0 &&
        std::tie(entries[i - 1].kind, entries[i - 1].name) >= std::tie(entries[i].kind, entries[i].name)) {
      throw Damaged("its entries are not in order");
    }
    if (!artifact.IsCheckedByGet(entries[i])) CheckEntry(entries[i], artifact.StoredBytes(entries[i]));
  }
  return artifact;
}

bool Artifact::IsCheckedByGet(const ManifestEntry& entry) const {
  return check_ == Check::kAllButTokenizers && entry.kind == EntryKind::kTokenizer;
}

Artifact Artifact::Open(const std::string& path, Check check) {
  try {
    SizeOf(path);
    return FromOwned(sys::ReadFileBytes(path), check);
  } catch (const Error& error) {
    throw error.WithContext(path);
  }
}

Manifest Artifact::ReadManifest(const std::string& path) {
  try {
    const uint64_t size_bytes = SizeOf(path);
    std::ifstream file(path, std::ios::binary);
    if (!file) throw MakeError(ErrorKind::kAccessDenied, "cannot open it");
    const auto read = [&file](size_t size) {
      std::vector<std::byte> bytes(size);
      file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
      bytes.resize(static_cast<size_t>(file.gcount()));
      return bytes;
    };
    const Header header = ParseHeader(read(kHeaderSize));
    if (header.file_size != size_bytes) {
      throw Damaged(fmt::format("{} bytes expected, {} found", header.file_size, size_bytes));
    }
    if (header.manifest_size > size_bytes) throw Damaged("its manifest runs past its end");
    return CheckedManifest(header, read(header.manifest_size));
  } catch (const Error& error) {
    throw error.WithContext(path);
  }
}

std::span<const std::byte> Artifact::signed_bytes() const {
  return bytes_.span().first(signed_size_);
}

std::span<const std::byte> Artifact::StoredBytes(const ManifestEntry& entry) const {
  return payload_.subspan(entry.offset, entry.stored_size);
}

const ManifestEntry* Artifact::Find(EntryKind kind, std::string_view name) const {
  const auto found = std::ranges::lower_bound(
      manifest_.entries, std::pair(kind, name), {},
      [](const ManifestEntry& entry) { return std::pair(entry.kind, std::string_view(entry.name)); });
  const bool there = found != manifest_.entries.end() && found->kind == kind && found->name == name;
  return there ? &*found : nullptr;
}

std::optional<store::EntryBytes> Artifact::Get(EntryKind kind, std::string_view name) {
  const ManifestEntry* found = Find(kind, name);
  if (found == nullptr) return std::nullopt;
  const auto stored = StoredBytes(*found);
  if (IsCheckedByGet(*found)) CheckEntry(*found, stored);
  if (found->encoding == Encoding::kRaw) return store::EntryBytes::Borrow(stored);
  return store::EntryBytes::Own(Decompress(*found, stored));
}

std::vector<store::EntryInfo> Artifact::List(EntryKind kind) {
  std::vector<store::EntryInfo> list;
  for (const ManifestEntry& entry : manifest_.entries) {
    if (entry.kind == kind) list.push_back({kind, entry.name, entry.parts, entry.size});
  }
  return list;
}

}  // namespace preheat::artifact
