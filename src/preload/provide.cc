#include "preload/provide.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "sys/code_image.h"

namespace preheat::preload {
namespace {

void CountFound(const program::Program& program, CompileCounters& counters) {
  ++counters.aot_cache_hit;
  counters.fxgraph_cache_hit += static_cast<int64_t>(program::RegionNames(program).size());
  if (!sys::IsPtxTarget(program.target))
    counters.async_compile_hit += static_cast<int64_t>(program::CodeHashes(program).size());
}

// What is left to a card's driver.
void CountPtx(const std::vector<program::Program>& programs, CompileCounters& counters) {
  for (const program::Program& program : programs) {
    if (sys::IsPtxTarget(program.target))
      counters.driver_compile += static_cast<int64_t>(program::CodeHashes(program).size());
  }
}

[[noreturn]] void ThrowWouldCompile(store::EntrySource& source, const ProgramFamily& family,
                                    const std::vector<StepSpec>& missing) {
  std::string message = "this run would have to compile, which is forbidden:";
  for (const StepSpec& step : missing) message += "\n  " + ExplainMiss(source, family, step);
  message += "\nBuild an artifact for this model, target, dtype and mode, or allow compiling.";
  throw base::Error(base::ErrorKind::kWouldCompile, message);
}

// Those that were found stand in the place of their step.
std::vector<std::optional<program::Program>> FindPrograms(store::EntrySource& source,
                                                          const ProgramFamily& family,
                                                          std::span<const StepSpec> steps) {
  std::vector<std::optional<program::Program>> found;
  for (const StepSpec& step : steps) found.push_back(FindProgram(source, family, step));
  return found;
}

bool HasAll(const std::vector<std::optional<program::Program>>& found) {
  return std::ranges::all_of(found, [](const auto& program) { return program.has_value(); });
}

// What was found, and the rest compiled.
std::vector<program::Program> Complete(std::vector<std::optional<program::Program>> found,
                                       store::EntrySource& source, const ProgramFamily& family,
                                       std::span<const StepSpec> steps, const CompileFunction& compile,
                                       CompileCounters& counters) {
  std::vector<StepSpec> missing;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (found[i]) {
      CountFound(*found[i], counters);
    } else {
      missing.push_back(steps[i]);
    }
  }
  std::vector<program::Program> compiled;
  if (!missing.empty()) {
    if (!compile) ThrowWouldCompile(source, family, missing);
    compiled = compile(family, missing);
    CHECK(compiled.size() == missing.size());
  }
  std::vector<program::Program> programs;
  auto next = compiled.begin();
  for (auto& program : found) programs.push_back(std::move(program ? *program : *next++));
  CountPtx(programs, counters);
  return programs;
}

}  // namespace

std::vector<program::Program> ProvidePrograms(store::EntrySource& source, const ProgramFamily& family,
                                              std::span<const StepSpec> steps, const CompileFunction& compile,
                                              CompileCounters& counters) {
  return Complete(FindPrograms(source, family, steps), source, family, steps, compile, counters);
}

std::optional<Provision> FindForBestTarget(store::EntrySource& source, ProgramFamily family,
                                           std::span<const std::string> targets,
                                           std::span<const StepSpec> steps, CompileCounters& counters) {
  for (const std::string& target : targets) {
    family.target = target;
    auto found = FindPrograms(source, family, steps);
    if (!HasAll(found)) continue;
    auto programs = Complete(std::move(found), source, family, steps, {}, counters);
    return Provision{std::move(family), std::move(programs)};
  }
  return std::nullopt;
}

}  // namespace preheat::preload
