#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>

#include "artifact/artifact.h"
#include "base/error.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "program/program.h"

namespace preheat::cli {
namespace {

// What a program will need besides the weights, at a given context.
struct MemoryNeeded {
  int64_t cache_bytes = 0;
  int64_t activation_bytes = 0;
};

MemoryNeeded NeededBy(const program::Program& program, int64_t capacity) {
  const int64_t rows = program.max_rows > 0 ? program.max_rows : capacity;
  MemoryNeeded needed;
  needed.cache_bytes = program.layers * (program.kv.key_bytes.Bytes(rows, capacity) +
                                         program.kv.value_bytes.Bytes(rows, capacity));
  std::vector<int64_t> slots(static_cast<size_t>(program.slots));
  for (const program::Buffer& buffer : program.buffers) {
    int64_t& slot = slots[static_cast<size_t>(buffer.slot)];
    slot = std::max(slot, buffer.extent.Bytes(rows, capacity));
  }
  for (int64_t slot : slots) needed.activation_bytes += slot;
  return needed;
}

// The longest listed prompt and what is generated behind it.
int64_t TypicalCapacity(const artifact::Purpose& purpose) {
  const int64_t prompt = purpose.prefill_lengths.empty() ? 0 : purpose.prefill_lengths.back();
  return prompt + purpose.decode_length;
}

void PrintText(artifact::Artifact& artifact, const std::string& path) {
  const artifact::Manifest& manifest = artifact.manifest();
  const artifact::Purpose& purpose = manifest.purpose;
  const int64_t capacity = TypicalCapacity(purpose);
  fmt::print("{}: {} bytes, format {}{}\n", path, artifact.size_bytes(), artifact::kFormatVersion,
             artifact.signature() ? ", signed" : "");
  fmt::print("model: {} (config {})\n", manifest.model.id, manifest.model.config_hash.substr(0, 16));
  fmt::print("targets: {}\n", fmt::join(purpose.targets, ", "));
  fmt::print("buckets: {}; decode length {}; batch size {}\n", fmt::join(purpose.prefill_lengths, ","),
             purpose.decode_length, purpose.batch_size);
  fmt::print("dtype {}, mode {}, dynamic {}, cache {}\n", purpose.dtype, purpose.mode, purpose.dynamic,
             purpose.cache_implementation);
  for (const auto& [name, version] : manifest.makers.versions) fmt::print("{} {}; ", name, version);
  fmt::print("made with {}\n", fmt::join(manifest.makers.toolchains, "; "));
  for (const artifact::ManifestEntry& entry : manifest.entries) {
    fmt::print("  {:<9} {} {:>8} bytes ({:>7} stored) {} {}\n", store::EntryKindName(entry.kind),
               entry.name.substr(0, 12), entry.size, entry.stored_size, entry.target, entry.Part("step"));
    if (entry.kind != store::EntryKind::kProgram) continue;
    const auto bytes = artifact.Get(entry.kind, entry.name);
    const program::Program program = program::FromJson(bytes->text(), path);
    const MemoryNeeded needed = NeededBy(program, capacity);
    fmt::print(
        "            profile {}; regions {}; at {} positions: KV cache {:.1f} MB, activations {:.1f} MB\n",
        entry.Part("profile"), fmt::join(program::RegionNames(program), " "), capacity,
        static_cast<double>(needed.cache_bytes) / 1e6, static_cast<double>(needed.activation_bytes) / 1e6);
  }
}

void PrintJson(artifact::Artifact& artifact, const std::string& path) {
  const artifact::Manifest& manifest = artifact.manifest();
  const artifact::Purpose& purpose = manifest.purpose;
  const int64_t capacity = TypicalCapacity(purpose);
  JsonText out;
  out.Begin().Field("path", path).Field("bytes", static_cast<int64_t>(artifact.size_bytes()));
  out.Field("format_version", static_cast<int64_t>(artifact::kFormatVersion))
      .Field("signed", artifact.signature().has_value());
  out.Key("model")
      .Begin()
      .Field("id", manifest.model.id)
      .Field("config_hash", manifest.model.config_hash)
      .End();
  out.Field("targets", purpose.targets).Field("prefill_lengths", purpose.prefill_lengths);
  out.Field("decode_length", purpose.decode_length).Field("batch_size", purpose.batch_size);
  out.Field("dtype", purpose.dtype).Field("mode", purpose.mode).Field("dynamic", purpose.dynamic);
  out.Field("cache_implementation", purpose.cache_implementation);
  out.Key("versions").Begin();
  for (const auto& [name, version] : manifest.makers.versions) out.Field(name, version);
  out.End().Field("toolchains", manifest.makers.toolchains);
  out.Field("capacity_positions", capacity).Key("entries").BeginList();
  for (const artifact::ManifestEntry& entry : manifest.entries) {
    out.Begin()
        .Field("kind", store::EntryKindName(entry.kind))
        .Field("name", entry.name)
        .Field("target", entry.target);
    out.Field("bytes", static_cast<int64_t>(entry.size))
        .Field("stored_bytes", static_cast<int64_t>(entry.stored_size));
    out.Key("key").Begin();
    for (const store::KeyPart& part : entry.parts) out.Field(part.label, part.value);
    out.End();
    if (entry.kind == store::EntryKind::kProgram) {
      const auto bytes = artifact.Get(entry.kind, entry.name);
      const program::Program program = program::FromJson(bytes->text(), path);
      const MemoryNeeded needed = NeededBy(program, capacity);
      out.Field("kv_cache_bytes", needed.cache_bytes).Field("activation_bytes", needed.activation_bytes);
      out.Key("regions").BeginList();
      for (const std::string& region : program::RegionNames(program)) out.Value(region);
      out.EndList();
    }
    out.End();
  }
  out.EndList().End();
  fmt::print("{}", out.Text());
}

}  // namespace

int InspectCommand(const Words& words) {
  std::string path;
  bool json = false;
  DeviceOptions device;
  Arguments arguments("preheat inspect", "Shows what is in an artifact.");
  arguments.Positional("ARTIFACT", path, "The file");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(device);
  artifact::Artifact artifact = artifact::Artifact::Open(path);
  if (json) {
    PrintJson(artifact, path);
  } else {
    PrintText(artifact, path);
  }
  return kExitDone;
}

}  // namespace preheat::cli
