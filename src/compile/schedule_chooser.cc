#include "compile/schedule_chooser.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "compile/lower.h"
#include "compile/making.h"
#include "compile/region_bench.h"
#include "ir/printer.h"
#include "sys/clock.h"

namespace preheat::compile {
namespace {

using codegen::Schedule;
using store::EntryKind;

std::string AttributeText(const ir::Attribute& attribute) {
  if (const auto* text = std::get_if<std::string>(&attribute)) return *text;
  if (const auto* number = std::get_if<int64_t>(&attribute)) return std::to_string(*number);
  return fmt::format("{}", std::get<double>(attribute));
}

// What the times depend on: steps of several lengths have regions in common.
int64_t RowsMeasured(const ScheduleChooser::Region& region) {
  return HasOneRow(*region.graph, region.node) ? 1 : RegionBench::RowsMeasured(region.shape);
}

}  // namespace

std::string RegionSignature(const ir::Graph& graph, ir::NodeId node) {
  const ir::Node& region = graph[node];
  std::string text = fmt::format("{} : {}", ir::Info(region.op).text, ir::ToText(region.type));
  for (const auto& [name, value] : region.attributes)
    text += fmt::format("\n{} = {}", name, AttributeText(value));
  for (ir::NodeId input : region.inputs) {
    text += fmt::format("\n{} : {}", graph[input].op == ir::Op::kWeight ? "weight" : "value",
                        ir::ToText(graph[input].type));
  }
  return text;
}

store::Key ScheduleChooser::KeyOf(const Region& region, const std::vector<Schedule>& candidates) const {
  return store::KeyBuilder()
      .Add("region", RegionSignature(*region.graph, region.node))
      .Add("rows", RowsMeasured(region))
      .Add("threads", region.shape.threads)
      .Add("target", options_.target.name)
      .Add("profile", options_.profile)
      .AddHashOf("candidates", ToText(candidates))
      .Build();
}

// A region that is to be measured, and where its candidates' code stands among the sources.
struct ScheduleChooser::Job {
  const Region* region;
  store::Key key;
  std::vector<Schedule> candidates;
  std::vector<codegen::RegionCode> code;
  Making::Group sources;
};

// The regions that have no record yet, each once; their candidates are added to the sources.
std::vector<ScheduleChooser::Job> ScheduleChooser::JobsOf(std::span<const Region> regions,
                                                          std::vector<Source>* sources) {
  std::vector<Job> jobs;
  for (const Region& region : regions) {
    auto candidates = codegen::Candidates(*region.graph, region.node, options_.target, region.shape);
    if (candidates.size() < 2) continue;
    store::Key key = KeyOf(region, candidates);
    if (measured_.contains(key.name())) continue;
    if (const auto record = store_.Get(EntryKind::kTuning, key.name())) {
      if (auto choice = ChoiceOfRecord(candidates, record->text())) {
        measured_[key.name()] = std::move(*choice);
        continue;
      }
    }
    measured_[key.name()] = {};  // the same region in another step is measured once
    Job job = {.region = &region,
               .key = std::move(key),
               .candidates = std::move(candidates),
               .sources = {.first = sources->size()}};
    job.sources.count = job.candidates.size();
    for (const Schedule& candidate : job.candidates) {
      job.code.push_back(
          codegen::Generate(*region.graph, region.node, options_.target, region.shape, candidate));
      sources->push_back({RegionName(*region.graph, region.node), job.code.back().source});
    }
    jobs.push_back(std::move(job));
  }
  return jobs;
}

void ScheduleChooser::MeasureJob(const Job& job, Making& making, WeightPool& weights,
                                 base::Progress& progress) {
  progress.SetNote(RegionName(*job.region->graph, job.region->node));
  std::vector<store::EntryBytes> images;
  std::vector<RegionBench::Candidate> candidates;
  images.reserve(job.candidates.size());
  for (size_t i = 0; i < job.candidates.size(); ++i) {
    images.push_back(std::move(*store_.Get(EntryKind::kCode, making.HashOf(job.sources.first + i))));
    candidates.push_back({&job.code[i], images.back().span()});
  }
  RegionBench bench(*options_.device, weights, *job.region->graph, options_.target, job.region->shape);
  tune::TuneOptions options = MeasuringOptions();
  int64_t turns_left = options.rounds * static_cast<int64_t>(candidates.size());
  options.on_turn = [&] {
    --turns_left;
    progress.Advance();
  };
  Choice choice = ChoiceOfOutcome(job.candidates, bench.Run(candidates, options));
  store_.Put(EntryKind::kTuning, job.key, codegen::ToText(choice.schedule));
  measured_[job.key.name()] = std::move(choice);
  progress.Advance(turns_left);  // of candidates that dropped out early
}

void ScheduleChooser::Measure(std::span<const Region> regions, std::span<const Source> beside) {
  if (options_.device == nullptr) return;
  const double start = sys::MonotonicSeconds();
  std::vector<Source> sources;
  std::vector<Job> jobs = JobsOf(regions, &sources);
  if (jobs.empty()) return;
  sources.insert(sources.end(), beside.begin(), beside.end());

  int64_t turns = 0;
  for (const Job& job : jobs)
    turns += MeasuringOptions().rounds * static_cast<int64_t>(job.candidates.size());
  // A card measures while CPUs compile; what CPUs measure needs them for itself.
  const bool aside = options_.device->RunsAhead();
  std::optional<base::Progress> progress;
  if (aside) progress.emplace("tuning", turns + static_cast<int64_t>(sources.size()));
  Making making(code_, sources, aside, [&](const Source& source) {
    if (!progress) return;
    progress->SetNote(source.name);
    progress->Advance();
  });
  if (!aside) progress.emplace("tuning", turns);
  WeightPool weights(*options_.device);
  while (!jobs.empty()) {
    std::vector<Making::Group> groups;
    for (const Job& job : jobs) groups.push_back(job.sources);
    const auto next = jobs.begin() + static_cast<std::ptrdiff_t>(making.WaitForOne(groups));
    MeasureJob(*next, making, weights, *progress);
    jobs.erase(next);
  }
  making.Finish();
  seconds_ += sys::MonotonicSeconds() - start;
}

Choice ScheduleChooser::Choose(const Region& region) const {
  if (options_.device != nullptr) {
    const auto candidates = codegen::Candidates(*region.graph, region.node, options_.target, region.shape);
    const auto found = measured_.find(KeyOf(region, candidates).name());
    if (found != measured_.end()) return found->second;
  }
  return {codegen::DefaultSchedule(*region.graph, region.node, options_.target, region.shape), "heuristic"};
}

}  // namespace preheat::compile
