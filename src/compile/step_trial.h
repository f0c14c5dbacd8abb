// The ways in which a step can run on a card, tried as whole steps, since its parts influence each other:
// decode as one persistent kernel, by each of its schedules, or as a launch a region; a prompt by the
// schedules that its regions were measured to be fastest with one by one, or by the heuristics'.
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
#include "program/program.h"
#include "session/session.h"
#include "store/store.h"

namespace preheat::compile {

// In a schedule of a whole step: a launch a region.
codegen::Schedule LaunchesOfRegions();
bool IsLaunchesOfRegions(const codegen::Schedule& schedule);

class StepTrial {
 public:
  struct Step {
    program::StepKind kind = program::StepKind::kDecode;
    int64_t rows = 1;  // a bucket's length; 0: any length, as RegionBench::RowsMeasured has it
  };
  using LowerBy = std::function<LoweredStep(const codegen::Schedule&)>;
  // `store`, `code` and the device outlive the trial. `lower` is called here alone. REQUIRES: there is a
  // device.
  StepTrial(store::Store& store, CodeMaker& code, const ChooserOptions& options, const ir::Graph& graph,
            const Step& step, std::vector<codegen::Schedule> candidates, const LowerBy& lower);

  // What Decide measures; empty where there is a record.
  const std::vector<Source>& sources() const { return sources_; }
  // Errors: what CodeMaker, the device and sessions throw.
  Choice Decide();
  double seconds() const { return seconds_; }  // that Decide took to measure

 private:
  std::vector<program::Program> MakePrograms();
  void Run(session::Session& session) const;

  store::Store& store_;
  CodeMaker& code_;
  device::Device& device_;
  Step step_;
  std::vector<codegen::Schedule> candidates_;
  store::Key key_;
  std::optional<Choice> recorded_;
  std::vector<LoweredStep> steps_;  // of each candidate; empty where there is a record
  std::vector<Source> sources_;
  double seconds_ = 0;
};

}  // namespace preheat::compile
