#include "compile/step_trial.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/progress.h"
#include "compile/bare_session.h"
#include "compile/region_bench.h"
#include "compile/weight_pool.h"
#include "ir/printer.h"
#include "sys/clock.h"

namespace preheat::compile {
namespace {

using codegen::Schedule;
using store::EntryKind;

// Where decode is measured, and how many steps a run has.
constexpr int64_t kPast = 1023, kSteps = 8;
constexpr int64_t kLeastCapacity = 1280, kCapacityBlock = 256;  // a multiple of every layout's block

int64_t CapacityFor(int64_t rows) {
  return std::max(kLeastCapacity, (rows + kCapacityBlock) / kCapacityBlock * kCapacityBlock);
}

// Enough that a step's weights have left the caches when they are read again.
size_t PoolBytes(const program::Program& program, int64_t cache_bytes) {
  size_t largest = 0;
  for (const program::Weight& weight : program.weights) largest = std::max(largest, weight.Bytes());
  return largest + 4 * static_cast<size_t>(cache_bytes) + WeightPool::kAlignment;
}

}  // namespace

Schedule LaunchesOfRegions() {
  return {{"persistent", 0}};
}

bool IsLaunchesOfRegions(const Schedule& schedule) {
  const auto persistent = schedule.find("persistent");
  return persistent != schedule.end() && persistent->second == 0;
}

StepTrial::StepTrial(store::Store& store, CodeMaker& code, const ChooserOptions& options,
                     const ir::Graph& graph, const Step& step, std::vector<Schedule> candidates,
                     const LowerBy& lower)
    : store_(store),
      code_(code),
      device_(*options.device),
      step_(step),
      candidates_(std::move(candidates)),
      key_(store::KeyBuilder()
               .Add("region", "step")
               .AddHashOf("graph", ir::Print(graph))
               .Add("rows", step.rows)
               .Add("target", options.target.name)
               .Add("profile", options.profile)
               .AddHashOf("candidates", ToText(candidates_))
               .Build()) {
  if (const auto record = store_.Get(EntryKind::kTuning, key_.name())) {
    recorded_ = ChoiceOfRecord(candidates_, record->text());
  }
  if (recorded_) return;
  for (const Schedule& candidate : candidates_) {
    steps_.push_back(lower(candidate));
    for (const RegionUnit& unit : steps_.back().units) sources_.push_back({unit.region, unit.source});
  }
}

// The lowered steps with their code.
std::vector<program::Program> StepTrial::MakePrograms() {
  const std::vector<std::string> hashes = code_.Make(sources_);
  std::vector<program::Program> programs;
  size_t source = 0;
  for (LoweredStep& step : steps_) {
    for (const RegionUnit& unit : step.units) PlaceCode(step.program, unit, hashes[source++]);
    programs.push_back(std::move(step.program));
  }
  return programs;
}

void StepTrial::Run(session::Session& session) const {
  if (step_.kind == program::StepKind::kDecode) {
    session.Resume(kPast);
    session.DecodeUntil(kSteps, [](int32_t) { return true; });
  } else {
    session.Reset();
    const int64_t rows = RegionBench::RowsMeasured({.rows = step_.rows});
    session.Prefill(std::vector<int32_t>(static_cast<size_t>(rows), 1), step_.rows);
    (void)session.token();  // waits for it
  }
  device_.Finish();
}

Choice StepTrial::Decide() {
  if (recorded_) return *recorded_;
  const double start = sys::MonotonicSeconds();
  std::vector<program::Program> programs = MakePrograms();
  WeightPool pool(device_);
  pool.Reset(PoolBytes(programs.front(), device_.cache_bytes()));
  const auto weight = [&](const std::string&, const program::Weight& which) {
    return pool.Take(which.Bytes());
  };
  std::vector<std::unique_ptr<session::Session>> sessions;
  for (program::Program& program : programs) {
    sessions.push_back(OpenBareSession(device_, store_, {std::move(program)}, weight,
                                       {.capacity = CapacityFor(step_.rows)}));
  }
  tune::TuneOptions options = MeasuringOptions();
  base::Progress progress("tuning", options.rounds * static_cast<int64_t>(candidates_.size()));
  progress.SetNote("step");
  options.on_turn = [&] { progress.Advance(); };
  const bool decode = step_.kind == program::StepKind::kDecode;
  const std::vector<double> work(candidates_.size(), static_cast<double>(decode ? kSteps : 1));
  const auto run = [&](size_t i) { Run(*sessions[i]); };
  Choice choice = ChoiceOfOutcome(candidates_, tune::Tune(candidates_.size(), run, work, options));
  store_.Put(EntryKind::kTuning, key_, codegen::ToText(choice.schedule));
  seconds_ = sys::MonotonicSeconds() - start;
  return choice;
}

}  // namespace preheat::compile
