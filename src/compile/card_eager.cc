#include "compile/card_eager.h"

#include <utility>

#include "base/error.h"
#include "capture/llama.h"
#include "codegen/codegen.h"
#include "compile/code_maker.h"
#include "compile/lower.h"
#include "passes/narrow_operations.h"
#include "passes/specialize_decode.h"

namespace preheat::compile {
namespace {

using program::LogitRows;
using program::StepKind;

LoweredStep LowerStep(const CardEagerOptions& options, StepKind kind) {
  const bool decode = kind == StepKind::kDecode;
  const LogitRows logit_rows = decode ? LogitRows::kLast : options.logit_rows;
  ir::Graph graph =
      capture::CaptureLlama(options.config, {.logit_rows = logit_rows, .weight_dtype = options.weight_dtype});
  if (decode) graph = passes::SpecializeDecode(graph);
  graph = passes::NarrowOperations(graph, options.dtype);
  return Lower(graph, {.name = decode ? "decode" : "prefill_any",
                       .kind = kind,
                       .shape = {.rows = decode ? 1 : 0},
                       .target = codegen::ParseTarget(options.target),
                       .logit_rows = logit_rows});
}

}  // namespace

CardEager MakeCardEager(store::Store& store, const CardEagerOptions& options) {
  std::vector<LoweredStep> steps;
  steps.push_back(LowerStep(options, StepKind::kPrefill));
  steps.push_back(LowerStep(options, StepKind::kDecode));
  std::vector<Source> sources;
  for (const LoweredStep& step : steps) {
    for (const RegionUnit& unit : step.units) sources.push_back({unit.region, unit.source});
  }
  CodeMaker code(store, options.target, 0, options.compiler);
  if (!options.may_compile) code.ForbidCompiling();
  std::vector<std::string> hashes;
  try {
    hashes = code.Make(sources);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::kNotFound) throw;
    throw base::MakeError(error.kind(),
                          "eager execution on a card compiles a small kernel for each operation that is no "
                          "matrix product: {}",
                          error.message());
  }
  CardEager result = {.compiled = code.compiled(), .compile_seconds = code.seconds()};
  size_t source = 0;
  for (LoweredStep& step : steps) {
    for (const RegionUnit& unit : step.units) PlaceCode(step.program, unit, hashes[source++]);
    step.program.toolchain = code.Identity();
    result.programs.push_back(std::move(step.program));
  }
  return result;
}

}  // namespace preheat::compile
