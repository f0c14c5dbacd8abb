#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "artifact/artifact.h"
#include "base/error.h"
#include "base/size_text.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "program/program.h"
#include "session/memory_plan.h"
#include "sys/code_image.h"
#include "toolchain/nvrtc.h"

namespace preheat::cli {
namespace {

using base::SizeText;

session::MemoryPlan PlanFor(const std::vector<program::Program>& programs, int64_t positions) {
  return session::PlanMemory(programs,
                             {.capacity = positions, .piece_rows = std::min(Engine::kPieceRows, positions)});
}

// Sizes in artifacts are bounded so that this many positions overflow nothing.
constexpr int64_t kMostPositions = int64_t{1} << 24;

// The longest listed prompt and what is generated behind it.
int64_t TypicalCapacity(const artifact::Purpose& purpose) {
  const int64_t prompt = purpose.prefill_lengths.empty() ? 0 : purpose.prefill_lengths.back();
  return prompt + purpose.decode_length;
}

using Programs = std::map<std::string, program::Program>;  // by entry name

Programs ReadPrograms(artifact::Artifact& artifact, const std::string& path) {
  Programs programs;
  for (const artifact::ManifestEntry& entry : artifact.manifest().entries) {
    if (entry.kind == store::EntryKind::kProgram)
      programs[entry.name] = program::FromJson(artifact.Get(entry.kind, entry.name)->text(), path);
  }
  return programs;
}

// What a run with code for a target takes: decode and the hungriest of the prefill programs.
struct TargetMemory {
  std::string target;
  session::MemoryPlan plan;

  // A card takes the weights into its own memory; a CPU reads them as mapped.
  bool HoldsWeights() const { return toolchain::IsNvrtcTarget(target); }
  int64_t TotalBytes() const {
    return static_cast<int64_t>(plan.total_bytes() - (HoldsWeights() ? 0 : plan.weight_bytes));
  }
};

std::vector<TargetMemory> MemoryByTarget(const Programs& programs, int64_t positions) {
  std::map<std::string, std::vector<program::Program>> decode, prefill;  // by target
  for (const auto& [name, program] : programs) {
    if (program.max_rows > positions) continue;  // a prompt of this bucket does not fit
    const bool decodes = program.kind == program::StepKind::kDecode;
    (decodes ? decode : prefill)[program.target].push_back(program);
  }
  std::vector<TargetMemory> all;
  for (const auto& [target, steps] : decode) {
    TargetMemory memory = {target, PlanFor({steps.front()}, positions)};
    for (const program::Program& program : prefill[target]) {
      session::MemoryPlan plan = PlanFor({program, steps.front()}, positions);
      if (plan.total_bytes() > memory.plan.total_bytes()) memory.plan = std::move(plan);
    }
    all.push_back(std::move(memory));
  }
  return all;
}

void PrintMemory(const TargetMemory& memory, int64_t positions) {
  const session::MemoryPlan& plan = memory.plan;
  fmt::print("memory for {} at {} positions: weights {}{}, KV cache {}, activations {}, in all {}{}\n",
             memory.target, positions, SizeText(plan.weight_bytes), memory.HoldsWeights() ? "" : " as mapped",
             SizeText(plan.cache_bytes), SizeText(plan.activation_bytes()),
             SizeText(static_cast<size_t>(memory.TotalBytes())),
             memory.HoldsWeights() ? " of the card's, beside what its driver takes" : " beside the mapped");
}

void PrintText(artifact::Artifact& artifact, const std::string& path, int64_t positions) {
  const artifact::Manifest& manifest = artifact.manifest();
  const artifact::Purpose& purpose = manifest.purpose;
  fmt::print("{}: {} bytes, format {}{}\n", path, artifact.size_bytes(), artifact::kFormatVersion,
             artifact.signature() ? ", signed" : "");
  fmt::print("model: {} (config {})\n", manifest.model.id, manifest.model.config_hash.substr(0, 16));
  fmt::print("targets: {}\n", fmt::join(purpose.targets, ", "));
  for (const std::string& target : purpose.targets) {
    if (!sys::IsPtxTarget(target)) continue;
    fmt::print(
        "{}: PTX, which the driver of a card of that compute capability or later compiles where there is no "
        "machine code for it\n",
        target);
  }
  fmt::print("buckets: {}; decode length {}; batch size {}\n", fmt::join(purpose.prefill_lengths, ","),
             purpose.decode_length, purpose.batch_size);
  fmt::print("dtype {}, mode {}, dynamic {}, cache {}\n", purpose.dtype, purpose.mode, purpose.dynamic,
             purpose.cache_implementation);
  for (const auto& [name, version] : manifest.makers.versions) fmt::print("{} {}; ", name, version);
  fmt::print("made with {}\n", fmt::join(manifest.makers.toolchains, "; "));
  const Programs programs = ReadPrograms(artifact, path);
  for (const TargetMemory& memory : MemoryByTarget(programs, positions)) PrintMemory(memory, positions);
  for (const artifact::ManifestEntry& entry : manifest.entries) {
    fmt::print("  {:<9} {} {:>8} bytes ({:>7} stored) {} {}\n", store::EntryKindName(entry.kind),
               entry.name.substr(0, 12), entry.size, entry.stored_size, entry.target, entry.Part("step"));
    if (entry.kind != store::EntryKind::kProgram) continue;
    const program::Program& program = programs.at(entry.name);
    const session::MemoryPlan plan = PlanFor({program}, positions);
    fmt::print("            profile {}; regions {}; at {} positions: KV cache {}, activations {}\n",
               entry.Part("profile"), fmt::join(program::RegionNames(program), " "), positions,
               SizeText(plan.cache_bytes), SizeText(plan.activation_bytes()));
  }
}

void PrintJson(artifact::Artifact& artifact, const std::string& path, int64_t positions) {
  const artifact::Manifest& manifest = artifact.manifest();
  const artifact::Purpose& purpose = manifest.purpose;
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
  out.Field("capacity_positions", positions).Key("memory").BeginList();
  const Programs programs = ReadPrograms(artifact, path);
  for (const TargetMemory& memory : MemoryByTarget(programs, positions)) {
    out.Begin().Field("target", memory.target);
    out.Field("weight_bytes", static_cast<int64_t>(memory.plan.weight_bytes));
    out.Field("kv_cache_bytes", static_cast<int64_t>(memory.plan.cache_bytes));
    out.Field("activation_bytes", static_cast<int64_t>(memory.plan.activation_bytes()));
    out.Field("total_bytes", memory.TotalBytes()).End();
  }
  out.EndList().Key("entries").BeginList();
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
      const program::Program& program = programs.at(entry.name);
      const session::MemoryPlan plan = PlanFor({program}, positions);
      out.Field("kv_cache_bytes", static_cast<int64_t>(plan.cache_bytes));
      out.Field("activation_bytes", static_cast<int64_t>(plan.activation_bytes()));
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
  int64_t positions = 0;
  bool json = false;
  DeviceOptions device;
  Arguments arguments("preheat inspect", "Shows what is in an artifact.");
  arguments.Positional("ARTIFACT", path, "The file");
  arguments.Count("--positions", positions, 1,
                  "Prompt and new tokens to say the memory for (default: the longest bucket and the decode "
                  "length)");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(device);
  artifact::Artifact artifact = artifact::Artifact::Open(path);
  if (positions == 0)
    positions = std::clamp<int64_t>(TypicalCapacity(artifact.manifest().purpose), 1, kMostPositions);
  if (positions > kMostPositions) {
    throw base::MakeError(base::ErrorKind::kInvalidArgument, "--positions {}: at most {}", positions,
                          kMostPositions);
  }
  if (json) {
    PrintJson(artifact, path, positions);
  } else {
    PrintText(artifact, path, positions);
  }
  return kExitDone;
}

}  // namespace preheat::cli
