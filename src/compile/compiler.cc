#include "compile/compiler.h"

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/progress.h"
#include "capture/llama.h"
#include "ir/printer.h"
#include "passes/pipeline.h"
#include "sys/clock.h"

namespace preheat::compile {
namespace {

using base::ErrorKind;
using base::MakeError;
using preload::StepSpec;

// Attention of one row is split over the KV cache in blocks of this many positions: a block of a 3B model's
// layer is 128 KiB a kv head, enough to hide the start of its stream.
constexpr int64_t kSplitBlock = 256;

// bf16 products where the request and the processor have them; else everything is fp32.
passes::Math MathFor(tensor::DType dtype, const codegen::Target& target) {
  return dtype == tensor::DType::kBf16 && target.bf16_dot ? passes::Math::kBf16 : passes::Math::kF32;
}

// The kernels of one region's code that the program launches.
std::set<std::string> EntriesOf(const program::Program& program, const RegionUnit& unit) {
  std::set<std::string> entries;
  for (const RegionUnit::Place& place : unit.launches) {
    entries.insert(program.segments[place.segment].launches[place.launch].entry);
  }
  return entries;
}

}  // namespace

// A step on its way to a program.
struct Compiler::Draft {
  StepSpec step;
  ir::Graph graph;
  codegen::StepShape shape;
  Way way;
  std::optional<StepTrial> trial;  // decides on the way
  std::unique_ptr<Dump> dump;
  StepTiming timing;
  LoweredStep lowered;
};

Compiler::Compiler(store::Store& store, CompilerOptions options)
    : store_(store),
      options_(std::move(options)),
      target_(codegen::ParseTarget(options_.family.target)),
      code_(store_, options_.family.target, options_.jobs, options_.compiler),
      chooser_{.target = target_, .profile = options_.family.profile, .device = options_.tuning_device},
      schedules_(store_, code_, chooser_) {}

ir::Graph Compiler::Capture(const StepSpec& step, Dump& dump) {
  const ir::Graph captured = capture::CaptureLlama(options_.config, {.logit_rows = step.logit_rows,
                                                                     .weight_dtype = options_.weight_dtype,
                                                                     .probe_layers = options_.probe_layers});
  ++counters_.unique_graphs;
  counters_.calls_captured += static_cast<int64_t>(captured.nodes.size());
  const bool decode = step.kind == program::StepKind::kDecode;
  passes::PipelineOptions options = {.kind = decode ? passes::StepKind::kDecode : passes::StepKind::kPrefill,
                                     .math = MathFor(options_.dtype, target_),
                                     .split_block = target_.IsCuda() ? 0 : kSplitBlock};
  if (dump.enabled()) {
    options.dump = [&](std::string_view pass, std::string_view before, std::string_view after) {
      dump.Graph(pass, before, after);
    };
  }
  return passes::RunPasses(captured, options);
}

// How a decode step runs: as one kernel wherever that can be, unless measuring or "step:persistent=0" says
// otherwise.
void Compiler::ChooseStep(Draft& draft) {
  if (draft.step.kind != program::StepKind::kDecode) return;
  std::vector<codegen::Schedule> candidates = codegen::PersistentSchedules(draft.graph, target_);
  if (candidates.empty()) return;
  draft.way.persistent = candidates.front();
  if (const auto forced = options_.schedules.find("step"); forced != options_.schedules.end()) {
    for (const auto& [name, value] : forced->second) (*draft.way.persistent)[name] = value;
    if (IsLaunchesOfRegions(*draft.way.persistent)) draft.way.persistent.reset();
    return;
  }
  if (chooser_.device == nullptr) return;
  candidates.push_back(LaunchesOfRegions());
  draft.trial.emplace(store_, code_, chooser_, draft.graph, StepTrial::Step{}, std::move(candidates),
                      [&](const codegen::Schedule& candidate) {
                        Dump none("", "");
                        if (IsLaunchesOfRegions(candidate)) return LowerDraft(draft, {}, none);
                        return LowerDraft(draft, {.persistent = candidate}, none);
                      });
}

Choice Compiler::ChooseRegion(const Draft& draft, const Way& way, ir::NodeId node) const {
  // A decode step's records are of regions that look the same; which are there depends on what was built
  // before.
  const bool guess = IsOfLastRow(draft.graph, node) || (way.heuristics && !HasOneRow(draft.graph, node));
  Choice choice = guess
                      ? Choice{codegen::DefaultSchedule(draft.graph, node, target_, draft.shape), "heuristic"}
                      : schedules_.Choose({&draft.graph, node, draft.shape});
  const auto forced = options_.schedules.find(RegionName(draft.graph, node));
  if (forced != options_.schedules.end()) {
    for (const auto& [name, value] : forced->second) choice.schedule[name] = value;
    choice.reason = "asked for";
  }
  return choice;
}

// Of all regions: each number under its region's name and its own.
codegen::Schedule Compiler::SchedulesOf(const Draft& draft, const Way& way) const {
  codegen::Schedule all;
  for (const ScheduleChooser::Region& region : RegionsOf(std::span(&draft, 1))) {
    const std::string name = RegionName(draft.graph, region.node);
    for (const auto& [number, value] : ChooseRegion(draft, way, region.node).schedule)
      all[name + "." + number] = value;
  }
  return all;
}

LoweredStep Compiler::LowerDraft(const Draft& draft, const Way& way, Dump& dump) {
  const auto choose = [&](const ir::Graph& graph, ir::NodeId node) {
    Choice choice = ChooseRegion(draft, way, node);
    dump.Schedule(RegionName(graph, node), codegen::ToText(choice.schedule), choice.reason);
    return std::move(choice.schedule);
  };
  return Lower(draft.graph, {.name = draft.step.Name(),
                             .kind = draft.step.kind,
                             .shape = draft.shape,
                             .target = target_,
                             .logit_rows = draft.step.logit_rows,
                             .persistent = way.persistent,
                             .schedule = choose});
}

Compiler::Draft Compiler::Prepare(const StepSpec& step) {
  const double start = sys::MonotonicSeconds();
  Draft draft = {.step = step,
                 .shape = {.rows = step.max_rows,
                           .threads = options_.threads,
                           .resident_clusters = options_.resident_clusters},
                 .dump = std::make_unique<Dump>(options_.dump_folder, step.Name())};
  draft.graph = Capture(step, *draft.dump);
  ChooseStep(draft);
  draft.timing = {.step = step.Name(), .capture_seconds = sys::MonotonicSeconds() - start};
  return draft;
}

// Regions of the steps that run by launches of them.
std::vector<ScheduleChooser::Region> Compiler::RegionsOf(std::span<const Draft> drafts) const {
  std::vector<ScheduleChooser::Region> regions;
  for (const Draft& draft : drafts) {
    if (draft.way.persistent) continue;  // its regions have no schedules of their own
    for (const ir::Block& block : draft.graph.blocks) {
      for (ir::NodeId node : block.nodes) {
        if (IsOfLastRow(draft.graph, node)) continue;  // once a prompt: not worth measuring
        if (codegen::CanCompile(draft.graph, node, target_))
          regions.push_back({&draft.graph, node, draft.shape});
      }
    }
  }
  return regions;
}

void Compiler::Measure(std::span<Draft> drafts) {
  const double measured_before = schedules_.seconds();
  std::vector<Source> of_trials;
  for (const Draft& draft : drafts) {
    if (draft.trial)
      of_trials.insert(of_trials.end(), draft.trial->sources().begin(), draft.trial->sources().end());
  }
  schedules_.Measure(RegionsOf(drafts), of_trials);
  for (Draft& draft : drafts) {
    if (!draft.trial) continue;
    Choice choice = draft.trial->Decide();
    report_.tune_seconds += draft.trial->seconds();
    draft.dump->Schedule("step", codegen::ToText(choice.schedule), choice.reason);
    if (IsLaunchesOfRegions(choice.schedule)) {
      draft.way.persistent.reset();
      schedules_.Measure(RegionsOf(std::span(&draft, 1)));
    } else {
      draft.way.persistent = std::move(choice.schedule);
    }
  }
  report_.tune_seconds += schedules_.seconds() - measured_before;
  if (target_.IsCuda() && chooser_.device != nullptr) MeasurePrompts(drafts);
}

// Regions that are fastest one by one, with memory and clocks for themselves, need not be so in their step:
// the whole prompt decides between them and the heuristics.
void Compiler::MeasurePrompts(std::span<Draft> drafts) {
  const Way by_heuristics = {.heuristics = true};
  std::vector<Source> sources;
  for (Draft& draft : drafts) {
    if (draft.step.kind != program::StepKind::kPrefill) continue;
    if (draft.step.logit_rows != program::LogitRows::kLast) continue;
    const codegen::Schedule measured = SchedulesOf(draft, {}), guessed = SchedulesOf(draft, by_heuristics);
    if (measured == guessed) continue;
    draft.trial.emplace(
        store_, code_, chooser_, draft.graph, StepTrial::Step{draft.step.kind, draft.step.max_rows},
        std::vector<codegen::Schedule>{guessed, measured}, [&](const codegen::Schedule& candidate) {
          Dump none("", "");
          return LowerDraft(draft, candidate == guessed ? by_heuristics : Way{}, none);
        });
    sources.insert(sources.end(), draft.trial->sources().begin(), draft.trial->sources().end());
  }
  const double made_before = code_.seconds();
  code_.Make(sources);  // of all at once
  report_.tune_seconds += code_.seconds() - made_before;
  for (Draft& draft : drafts) {
    if (draft.step.kind != program::StepKind::kPrefill || !draft.trial) continue;
    Choice choice = draft.trial->Decide();
    report_.tune_seconds += draft.trial->seconds();
    draft.dump->Schedule("step", codegen::ToText(choice.schedule), choice.reason);
    draft.way.heuristics = choice.schedule == SchedulesOf(draft, by_heuristics);
  }
}

std::vector<program::Program> Compiler::Compile(std::span<const StepSpec> steps) {
  std::vector<Draft> drafts;
  for (const StepSpec& step : steps) drafts.push_back(Prepare(step));

  Measure(drafts);

  std::vector<Source> sources;
  for (Draft& draft : drafts) {
    const double start = sys::MonotonicSeconds();
    draft.lowered = LowerDraft(draft, draft.way, *draft.dump);
    for (const std::string& text : draft.lowered.breaks) {
      if (options_.fullgraph) {
        throw MakeError(ErrorKind::kUnsupported,
                        "{}: with --fullgraph every operation must compile, and this one does not: {}; use "
                        "--no-fullgraph to run it eager",
                        draft.step.Name(), text);
      }
      report_.graph_breaks.push_back(text);
    }
    for (const RegionUnit& unit : draft.lowered.units) sources.push_back({unit.region, unit.source});
    counters_.fxgraph_cache_miss += static_cast<int64_t>(program::RegionNames(draft.lowered.program).size());
    draft.dump->Units(draft.lowered.units);
    draft.timing.capture_seconds += sys::MonotonicSeconds() - start;
  }
  const std::vector<std::string> hashes = code_.Make(sources);

  std::vector<program::Program> programs;
  size_t source = 0;
  for (Draft& draft : drafts) {
    program::Program& program = draft.lowered.program;
    for (const RegionUnit& unit : draft.lowered.units) {
      PlaceCode(program, unit, hashes[source]);
      for (RegionResources& kernel : ResourcesOf(draft, unit, hashes[source])) {
        draft.dump->Resources(kernel);
        report_.resources.push_back(std::move(kernel));
      }
      if (target_.ptx) {
        for (const std::string& entry : EntriesOf(program, unit)) draft.dump->UnknownResources(unit, entry);
      }
      ++source;
    }
    program.toolchain = code_.Identity();
    // A program with a graph break does not keep what its key promises to others: it serves this run only.
    if (draft.lowered.breaks.empty()) Store(draft.step, program);
    draft.dump->Program(program);
    ++counters_.aot_cache_miss;
    report_.steps.push_back(draft.timing);
    programs.push_back(std::move(program));
  }
  counters_.async_compile_miss = code_.compiled();
  counters_.async_compile_hit = code_.found();
  report_.machine_code_seconds = code_.seconds();
  return programs;
}

std::vector<RegionResources> Compiler::ResourcesOf(const Draft& draft, const RegionUnit& unit,
                                                   const std::string& hash) {
  std::vector<RegionResources> all;
  for (const toolchain::KernelResources& kernel : code_.ResourcesOf(hash)) {
    RegionResources& resources =
        all.emplace_back(RegionResources{draft.step.Name(), unit.region, unit.node, kernel});
    for (const RegionUnit::Place& place : unit.launches) {
      const program::Launch& launch = draft.lowered.program.segments[place.segment].launches[place.launch];
      if (launch.entry == kernel.entry) resources.launch_shared_bytes = launch.blocks.shared_bytes;
    }
  }
  return all;
}

void Compiler::Store(const StepSpec& step, const program::Program& program) {
  const std::string text = program::ToJson(program);
  store_.Put(store::EntryKind::kProgram, preload::ProgramKey(options_.family, step), text);
  if (options_.family.profile == preload::kDefaultProfile) return;
  preload::ProgramFamily untuned = options_.family;
  untuned.profile = std::string(preload::kDefaultProfile);
  store_.Put(store::EntryKind::kProgram, preload::ProgramKey(untuned, step), text);
}

}  // namespace preheat::compile
