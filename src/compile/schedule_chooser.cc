#include "compile/schedule_chooser.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "compile/lower.h"
#include "compile/region_bench.h"
#include "ir/printer.h"
#include "sys/clock.h"

namespace preheat::compile {
namespace {

using codegen::Schedule;
using store::EntryKind;

// One time of a candidate: long enough that an interruption of a shared machine does not fill it.
constexpr double kLeastSeconds = 0.004;

std::string AttributeText(const ir::Attribute& attribute) {
  if (const auto* text = std::get_if<std::string>(&attribute)) return *text;
  if (const auto* number = std::get_if<int64_t>(&attribute)) return std::to_string(*number);
  return fmt::format("{}", std::get<double>(attribute));
}

// A record's text is the winner as codegen::ToText writes it, found again among the candidates.
std::optional<size_t> FindCandidate(const std::vector<Schedule>& candidates, std::string_view text) {
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (codegen::ToText(candidates[i]) == text) return i;
  }
  return std::nullopt;
}

std::string MeasuredReason(const std::vector<Schedule>& candidates, const tune::Outcome& outcome) {
  std::string reason = "measured:";
  for (size_t i = 0; i < candidates.size(); ++i) {
    reason += fmt::format(" [{}] {:.3f} ms in {} rounds{};", codegen::ToText(candidates[i]),
                          outcome.candidates[i].median_seconds * 1e3, outcome.candidates[i].rounds,
                          i == outcome.winner ? " (chosen)" : "");
  }
  return reason;
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
  std::string set;
  for (const Schedule& candidate : candidates) set += codegen::ToText(candidate) + "\n";
  return store::KeyBuilder()
      .Add("region", RegionSignature(*region.graph, region.node))
      .Add("rows", region.shape.rows)
      .Add("threads", region.shape.threads)
      .Add("target", options_.target.name)
      .Add("profile", options_.profile)
      .AddHashOf("candidates", set)
      .Build();
}

void ScheduleChooser::Measure(std::span<const Region> regions) {
  if (options_.device == nullptr) return;
  const double start = sys::MonotonicSeconds();
  struct Job {
    const Region* region;
    store::Key key;
    std::vector<Schedule> candidates;
    std::vector<codegen::RegionCode> code;
    size_t first_source;
  };
  std::vector<Job> jobs;
  std::vector<Source> sources;
  for (const Region& region : regions) {
    auto candidates = codegen::Candidates(*region.graph, region.node, options_.target, region.shape);
    if (candidates.size() < 2) continue;
    store::Key key = KeyOf(region, candidates);
    if (measured_.contains(key.name())) continue;
    if (const auto record = store_.Get(EntryKind::kTuning, key.name())) {
      if (const auto winner = FindCandidate(candidates, record->text())) {
        measured_[key.name()] = {candidates[*winner], "measured earlier, kept in the store"};
        continue;
      }
    }
    measured_[key.name()] = {};  // the same region in another step is measured once
    Job job = {.region = &region,
               .key = std::move(key),
               .candidates = std::move(candidates),
               .first_source = sources.size()};
    for (const Schedule& candidate : job.candidates) {
      job.code.push_back(
          codegen::Generate(*region.graph, region.node, options_.target, region.shape, candidate));
      sources.push_back({RegionName(*region.graph, region.node), job.code.back().source});
    }
    jobs.push_back(std::move(job));
  }
  if (jobs.empty()) return;

  const std::vector<std::string> hashes = code_.Make(sources);
  WeightPool weights(*options_.device);
  const tune::TuneOptions options = {.least_seconds = kLeastSeconds, .clock = sys::MonotonicSeconds};
  int64_t turns = 0;
  for (const Job& job : jobs) turns += options.rounds * static_cast<int64_t>(job.candidates.size());
  base::Progress progress("tuning", turns);
  for (const Job& job : jobs) {
    progress.SetNote(RegionName(*job.region->graph, job.region->node));
    std::vector<store::EntryBytes> images;
    std::vector<RegionBench::Candidate> candidates;
    images.reserve(job.candidates.size());
    for (size_t i = 0; i < job.candidates.size(); ++i) {
      images.push_back(std::move(*store_.Get(EntryKind::kCode, hashes[job.first_source + i])));
      candidates.push_back({&job.code[i], images.back().span()});
    }
    RegionBench bench(*options_.device, weights, *job.region->graph, options_.target, job.region->shape);
    int64_t turns_left = options.rounds * static_cast<int64_t>(candidates.size());
    tune::TuneOptions shown = options;
    shown.on_turn = [&] {
      --turns_left;
      progress.Advance();
    };
    const tune::Outcome outcome = bench.Run(candidates, shown);
    const Schedule& winner = job.candidates[outcome.winner];
    store_.Put(EntryKind::kTuning, job.key, codegen::ToText(winner));
    measured_[job.key.name()] = {winner, MeasuredReason(job.candidates, outcome)};
    progress.Advance(turns_left);  // of candidates that dropped out early
  }
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
