#include "store/entry_source.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/check.h"

namespace preheat::store {

std::string_view EntryKindName(EntryKind kind) {
  switch (kind) {
    case EntryKind::kCode:
      return "code";
    case EntryKind::kCompile:
      return "compile";
    case EntryKind::kProgram:
      return "program";
    case EntryKind::kTuning:
      return "tuning";
    case EntryKind::kTokenizer:
      return "tokenizer";
  }
  return "unknown";
}

std::optional<EntryKind> ParseEntryKind(std::string_view name) {
  for (int i = 0; i < kEntryKinds; ++i) {
    const auto kind = static_cast<EntryKind>(i);
    if (EntryKindName(kind) == name) return kind;
  }
  return std::nullopt;
}

EntryBytes EntryBytes::Own(std::vector<std::byte> bytes) {
  EntryBytes entry;
  entry.owned_ = std::move(bytes);
  entry.bytes_ = entry.owned_;
  return entry;
}

EntryBytes EntryBytes::OwnPart(std::vector<std::byte> bytes, size_t offset) {
  CHECK(offset <= bytes.size());
  EntryBytes entry = Own(std::move(bytes));
  entry.bytes_ = entry.bytes_.subspan(offset);
  return entry;
}

EntryBytes EntryBytes::Borrow(std::span<const std::byte> bytes) {
  EntryBytes entry;
  entry.bytes_ = bytes;
  return entry;
}

std::optional<EntryBytes> SourceChain::Get(EntryKind kind, std::string_view name) {
  for (EntrySource* source : sources_) {
    if (auto bytes = source->Get(kind, name)) return bytes;
  }
  return std::nullopt;
}

bool SourceChain::Has(EntryKind kind, std::string_view name) {
  return std::ranges::any_of(sources_, [&](EntrySource* source) { return source->Has(kind, name); });
}

std::vector<EntryInfo> SourceChain::List(EntryKind kind) {
  std::vector<EntryInfo> all;
  std::set<std::string, std::less<>> seen;
  for (EntrySource* source : sources_) {
    for (EntryInfo& info : source->List(kind)) {
      if (seen.insert(info.name).second) all.push_back(std::move(info));
    }
  }
  std::ranges::sort(all, {}, &EntryInfo::name);
  return all;
}

std::optional<NearestEntry> FindNearest(EntrySource& source, EntryKind kind, const Key& key) {
  std::optional<NearestEntry> nearest;
  for (EntryInfo& info : source.List(kind)) {
    std::vector<PartDifference> differences = DifferingParts(key.parts(), info.parts);
    if (nearest && differences.size() >= nearest->differences.size()) continue;
    nearest = NearestEntry{std::move(info), std::move(differences)};
  }
  return nearest;
}

}  // namespace preheat::store
