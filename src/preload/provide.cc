#include "preload/provide.h"

#include <set>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"

namespace preheat::preload {
namespace {

void CountFound(const program::Program& program, CompileCounters& counters) {
  std::set<std::string> regions;
  for (const program::Segment& segment : program.segments) {
    for (const program::Launch& launch : segment.launches) regions.insert(launch.region);
  }
  ++counters.aot_cache_hit;
  counters.fxgraph_cache_hit += static_cast<int64_t>(regions.size());
  counters.async_compile_hit += static_cast<int64_t>(program::CodeHashes(program).size());
}

[[noreturn]] void ThrowWouldCompile(store::EntrySource& source, const ProgramFamily& family,
                                    const std::vector<StepSpec>& missing) {
  std::string message = "this run would have to compile, which is forbidden:";
  for (const StepSpec& step : missing) message += "\n  " + ExplainMiss(source, family, step);
  message += "\nBuild an artifact for this model, target, dtype and mode, or allow compiling.";
  throw base::Error(base::ErrorKind::kWouldCompile, message);
}

}  // namespace

std::vector<program::Program> ProvidePrograms(store::EntrySource& source, const ProgramFamily& family,
                                              std::span<const StepSpec> steps, const CompileFunction& compile,
                                              CompileCounters& counters) {
  std::vector<program::Program> programs(steps.size());
  std::vector<StepSpec> missing;
  std::vector<size_t> places;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (auto found = FindProgram(source, family, steps[i])) {
      CountFound(*found, counters);
      programs[i] = std::move(*found);
    } else {
      missing.push_back(steps[i]);
      places.push_back(i);
    }
  }
  if (missing.empty()) return programs;
  if (!compile) ThrowWouldCompile(source, family, missing);
  std::vector<program::Program> compiled = compile(missing);
  CHECK(compiled.size() == missing.size());
  for (size_t i = 0; i < missing.size(); ++i) programs[places[i]] = std::move(compiled[i]);
  return programs;
}

}  // namespace preheat::preload
