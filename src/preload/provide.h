// The programs of a run: found in the sources, or compiled where that is allowed.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "preload/counters.h"
#include "preload/program_key.h"

namespace preheat::preload {

// Compiles these steps of a family and leaves their code where the sources find it. Empty: compiling is
// forbidden.
using CompileFunction =
    std::function<std::vector<program::Program>(const ProgramFamily&, std::span<const StepSpec>)>;

// One program a step, in order; what was found is added to `counters`.
// Errors: WouldCompile, with a line for each missing program that says which part of its key differs; what
// `compile` throws.
std::vector<program::Program> ProvidePrograms(store::EntrySource& source, const ProgramFamily& family,
                                              std::span<const StepSpec> steps, const CompileFunction& compile,
                                              CompileCounters& counters);

struct Provision {
  ProgramFamily family;  // as asked for, with the target that was chosen
  std::vector<program::Program> programs;
};
// Those of the first of `targets` (best first) that the source has every program for; nullopt, and nothing
// counted, where there is none.
std::optional<Provision> FindForBestTarget(store::EntrySource& source, ProgramFamily family,
                                           std::span<const std::string> targets,
                                           std::span<const StepSpec> steps, CompileCounters& counters);

}  // namespace preheat::preload
