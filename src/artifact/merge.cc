#include "artifact/merge.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/error.h"

namespace preheat::artifact {
namespace {

using base::ErrorKind;
using base::MakeError;
using store::EntryKind;

template <typename T>
std::vector<T> Union(const std::vector<T>& first, const std::vector<T>& second) {
  std::vector<T> both = first;
  both.insert(both.end(), second.begin(), second.end());
  std::ranges::sort(both);
  both.erase(std::unique(both.begin(), both.end()), both.end());
  return both;
}

void RequireEqual(std::string_view what, const std::string& first, const std::string& second) {
  if (first == second) return;
  throw MakeError(ErrorKind::kIncompatible, "cannot merge artifacts: {}: {} in the first, {} in the second",
                  what, first, second);
}

void RequireEqual(std::string_view what, int64_t first, int64_t second) {
  RequireEqual(what, std::to_string(first), std::to_string(second));
}

// Versions that only one side has are kept: an artifact without GPU code knows no GPU versions.
std::map<std::string, std::string> MergeVersions(const Makers& first, const Makers& second) {
  std::map<std::string, std::string> versions = first.versions;
  for (const auto& [name, version] : second.versions) {
    const auto [place, is_new] = versions.emplace(name, version);
    if (!is_new) RequireEqual("version of " + name, place->second, version);
  }
  return versions;
}

Manifest MergeDescriptions(const Manifest& first, const Manifest& second) {
  RequireEqual("model", first.model.config_hash, second.model.config_hash);
  RequireEqual("dtype", first.purpose.dtype, second.purpose.dtype);
  RequireEqual("mode", first.purpose.mode, second.purpose.mode);
  RequireEqual("dynamic", first.purpose.dynamic, second.purpose.dynamic);
  RequireEqual("cache implementation", first.purpose.cache_implementation,
               second.purpose.cache_implementation);
  RequireEqual("batch size", first.purpose.batch_size, second.purpose.batch_size);
  Manifest merged;
  merged.model = first.model;
  merged.purpose = first.purpose;
  merged.purpose.targets = Union(first.purpose.targets, second.purpose.targets);
  merged.purpose.prefill_lengths = Union(first.purpose.prefill_lengths, second.purpose.prefill_lengths);
  merged.purpose.decode_length = std::max(first.purpose.decode_length, second.purpose.decode_length);
  merged.makers.versions = MergeVersions(first.makers, second.makers);
  merged.makers.toolchains = Union(first.makers.toolchains, second.makers.toolchains);
  merged.notes = first.notes;
  for (const auto& [name, note] : second.notes) merged.notes[name] = note;
  return merged;
}

void AddEntry(ArtifactWriter& writer, Artifact& source, const ManifestEntry& entry) {
  const auto bytes = source.Get(entry.kind, entry.name);
  CHECK(bytes.has_value());  // its own manifest names it
  writer.AddNamed({entry.kind, entry.name, entry.target, entry.parts}, bytes->span());
}

}  // namespace

ArtifactWriter Merge(Artifact& first, Artifact& second, MergeRule rule) {
  ArtifactWriter writer(MergeDescriptions(first.manifest(), second.manifest()));
  for (const ManifestEntry& entry : second.manifest().entries) AddEntry(writer, second, entry);
  for (const ManifestEntry& entry : first.manifest().entries) {
    if (writer.Has(entry.kind, entry.name)) {
      const auto ours = first.Get(entry.kind, entry.name);
      const auto theirs = second.Get(entry.kind, entry.name);
      if (std::ranges::equal(ours->span(), theirs->span()) || rule == MergeRule::kPreferSecond) continue;
      throw MakeError(
          ErrorKind::kIncompatible,
          "cannot merge artifacts: {} {} has other bytes in each; choose the second's with the rule that "
          "prefers it, or merge the other way round",
          store::EntryKindName(entry.kind), entry.name);
    }
    AddEntry(writer, first, entry);
  }
  return writer;
}

}  // namespace preheat::artifact
