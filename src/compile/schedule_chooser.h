// Which schedule a region gets: what was measured for this device model, else the heuristic's choice.
//
// Measuring is done ahead, for all regions of all steps at once, so that their candidates are compiled in
// parallel; on a card a region is measured as soon as its candidates are compiled. A record is kept under
// region, shape, target, device model, threads and the set of candidates, so a new candidate set measures
// anew and another machine's records are never mistaken for this one's.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "codegen/codegen.h"
#include "compile/choice.h"
#include "compile/code_maker.h"
#include "compile/making.h"
#include "compile/weight_pool.h"
#include "device/device.h"
#include "ir/graph.h"
#include "store/store.h"

namespace preheat::compile {

class ScheduleChooser {
 public:
  // `store`, `code` and the device outlive the chooser.
  ScheduleChooser(store::Store& store, CodeMaker& code, ChooserOptions options)
      : store_(store), code_(code), options_(std::move(options)) {}

  struct Region {
    const ir::Graph* graph;
    ir::NodeId node;
    codegen::StepShape shape;
  };
  // Measures what has no record yet. Does nothing without a device. `beside`: compiled at the same time, for
  // whoever asks for it later.
  void Measure(std::span<const Region> regions, std::span<const Source> beside = {});
  Choice Choose(const Region& region) const;

  double seconds() const { return seconds_; }

 private:
  struct Job;

  std::vector<Job> JobsOf(std::span<const Region> regions, std::vector<Source>* sources);
  void MeasureJob(const Job& job, Making& making, WeightPool& weights, base::Progress& progress);
  store::Key KeyOf(const Region& region, const std::vector<codegen::Schedule>& candidates) const;

  store::Store& store_;
  CodeMaker& code_;
  ChooserOptions options_;
  std::map<std::string, Choice> measured_;  // by key
  double seconds_ = 0;
};

// Everything that a region's code depends on, as text: its operation, attributes and types, and its inputs'.
std::string RegionSignature(const ir::Graph& graph, ir::NodeId node);

}  // namespace preheat::compile
