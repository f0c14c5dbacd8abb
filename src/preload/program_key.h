// The program key: everything that a ready program is asked for by, and nothing else.
//
// It can be computed with no codegen and no compiler, and holds no path, user, time, host or ordinal: another
// compiler on the builder changes nothing for whoever preloads. The tuning profile names the device model
// whose measurements chose the schedules; kDefaultProfile stands for the architecture's own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "program/program.h"
#include "store/entry_source.h"
#include "store/key.h"

namespace preheat::preload {

inline constexpr std::string_view kDefaultProfile = "default";

struct StepSpec {
  program::StepKind kind = program::StepKind::kPrefill;
  int64_t max_rows = 0;  // a bucket's length; 1 for decode; 0: any length
  program::LogitRows logit_rows = program::LogitRows::kLast;

  static StepSpec Bucket(int64_t rows) {
    return {program::StepKind::kPrefill, rows, program::LogitRows::kLast};
  }
  static StepSpec AnyLength() { return {program::StepKind::kPrefill, 0, program::LogitRows::kLast}; }
  static StepSpec Decode() { return {program::StepKind::kDecode, 1, program::LogitRows::kLast}; }
  static StepSpec AllLogits() { return {program::StepKind::kPrefill, 0, program::LogitRows::kAll}; }

  std::string Name() const;  // "prefill_128", "prefill_any", "prefill_any_all_logits", "decode"
  bool operator==(const StepSpec&) const = default;
};

// What all programs of one run share.
struct ProgramFamily {
  std::string config_hash;   // of the model's shapes and constants, not of its weights
  std::string weight_dtype;  // as stored: "bfloat16"
  std::string dtype;         // of the arithmetic: "bfloat16", "float16", "float32"
  std::string mode;          // "max-autotune"
  std::string target;        // "x86-64-v4+avx512bf16"
  std::string profile = std::string(kDefaultProfile);
};

store::Key ProgramKey(const ProgramFamily& family, const StepSpec& step);

// The program under the key of the family's own profile, else under the default profile; nothing where the
// source has neither, or not all of its code. Errors: Corrupt where the entry is not a program.
std::optional<program::Program> FindProgram(store::EntrySource& source, const ProgramFamily& family,
                                            const StepSpec& step);

// Why FindProgram found nothing, in one sentence: which parts of the key differ from the nearest entry.
std::string ExplainMiss(store::EntrySource& source, const ProgramFamily& family, const StepSpec& step);

}  // namespace preheat::preload
