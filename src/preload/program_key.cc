#include "preload/program_key.h"

#include <fmt/format.h>

#include "abi/kernel_abi.h"

namespace preheat::preload {
namespace {

using store::EntryKind;

bool HasAllCode(store::EntrySource& source, const program::Program& program) {
  for (const std::string& hash : program::CodeHashes(program)) {
    if (!source.Has(EntryKind::kCode, hash)) return false;
  }
  return true;
}

std::optional<program::Program> FindExactly(store::EntrySource& source, const ProgramFamily& family,
                                            const StepSpec& step) {
  const store::Key key = ProgramKey(family, step);
  const auto entry = source.Get(EntryKind::kProgram, key.name());
  if (!entry) return std::nullopt;
  program::Program program = program::FromJson(entry->text(), fmt::format("program {}", step.Name()));
  if (!HasAllCode(source, program)) return std::nullopt;
  return program;
}

}  // namespace

std::string StepSpec::Name() const {
  if (kind == program::StepKind::kDecode) return "decode";
  const std::string length = max_rows > 0 ? std::to_string(max_rows) : "any";
  return "prefill_" + length + (logit_rows == program::LogitRows::kAll ? "_all_logits" : "");
}

store::Key ProgramKey(const ProgramFamily& family, const StepSpec& step) {
  return store::KeyBuilder()
      .Add("format", program::kFormatVersion)
      .Add("abi", PH_ABI_VERSION)
      .Add("model", family.config_hash)
      .Add("weights", family.weight_dtype)
      .Add("step", step.Name())
      .Add("dtype", family.dtype)
      .Add("mode", family.mode)
      .Add("target", family.target)
      .Add("profile", family.profile)
      .Build();
}

std::optional<program::Program> FindProgram(store::EntrySource& source, const ProgramFamily& family,
                                            const StepSpec& step) {
  if (auto program = FindExactly(source, family, step)) return program;
  if (family.profile == kDefaultProfile) return std::nullopt;
  ProgramFamily untuned = family;
  untuned.profile = std::string(kDefaultProfile);
  return FindExactly(source, untuned, step);
}

std::string ExplainMiss(store::EntrySource& source, const ProgramFamily& family, const StepSpec& step) {
  const store::Key key = ProgramKey(family, step);
  const auto nearest = store::FindNearest(source, EntryKind::kProgram, key);
  if (!nearest) return fmt::format("{}: there is no program at all", step.Name());
  if (nearest->differences.empty())
    return fmt::format("{}: machine code that the program names is missing", step.Name());
  return fmt::format("{}: the nearest program differs in {}", step.Name(),
                     store::DescribeDifferences(nearest->differences));
}

}  // namespace preheat::preload
