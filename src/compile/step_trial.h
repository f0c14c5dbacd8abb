// The ways in which a decode step can run on a card, tried as whole steps, since its parts influence each
// other: as one persistent kernel, by each of its schedules, or as a launch a region.
//
// Compiling is the compiler's, beside all else that it compiles; so a trial says what it needs, and is
// decided later. Its record is kept under the graph, target, device model and candidates.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "compile/choice.h"
#include "compile/code_maker.h"
#include "compile/lower.h"
#include "ir/graph.h"
#include "store/store.h"

namespace preheat::compile {

// In a schedule of a whole step: a launch a region.
codegen::Schedule LaunchesOfRegions();
bool IsLaunchesOfRegions(const codegen::Schedule& schedule);

class StepTrial {
 public:
  using LowerBy = std::function<LoweredStep(const codegen::Schedule&)>;
  // `store`, `code` and the device outlive the trial. `lower` is called here alone. REQUIRES: there is a
  // device.
  StepTrial(store::Store& store, CodeMaker& code, const ChooserOptions& options, const ir::Graph& graph,
            std::vector<codegen::Schedule> candidates, const LowerBy& lower);

  // What Decide measures; empty where there is a record.
  const std::vector<Source>& sources() const { return sources_; }
  // Errors: what CodeMaker, the device and sessions throw.
  Choice Decide();
  double seconds() const { return seconds_; }  // that Decide took to measure

 private:
  std::vector<program::Program> MakePrograms();

  store::Store& store_;
  CodeMaker& code_;
  device::Device& device_;
  std::vector<codegen::Schedule> candidates_;
  store::Key key_;
  std::optional<Choice> recorded_;
  std::vector<LoweredStep> steps_;  // of each candidate; empty where there is a record
  std::vector<Source> sources_;
  double seconds_ = 0;
};

}  // namespace preheat::compile
