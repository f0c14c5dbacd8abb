// Checkpoint config -> programs: capture, passes, schedules, source, machine code, all through the store.
//
// What was made before is found again: programs by their program key, machine code by its compile key (source
// text, compiler, flags, target), measured schedules by their tuning key. One Compiler serves one model,
// target and mode. Not thread-safe; it starts its own compiler processes.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "codegen/codegen.h"
#include "compile/code_maker.h"
#include "compile/dump.h"
#include "compile/lower.h"
#include "compile/schedule_chooser.h"
#include "compile/step_trial.h"
#include "device/device.h"
#include "ir/graph.h"
#include "preload/counters.h"
#include "preload/program_key.h"
#include "store/store.h"
#include "tensor/dtype.h"
#include "toolchain/nvrtc.h"

namespace preheat::compile {

struct CompilerOptions {
  checkpoint::ModelConfig config;
  tensor::DType weight_dtype = tensor::DType::kBf16;
  tensor::DType dtype = tensor::DType::kBf16;  // of the arithmetic
  preload::ProgramFamily family;               // key parts of the above, mode and target
  bool fullgraph = true;                       // a graph break is an error
  bool probe_layers = false;  // show the hidden state after each layer: an operation that is not compiled
  // Measures schedules on this device where it runs the target and the mode asks for it; else heuristics.
  device::Device* tuning_device = nullptr;
  int threads = 0;                       // of the machine that will run the programs; 0: not known
  std::vector<int> resident_clusters{};  // of that machine, as Device::ResidentClusters; empty: not known
  int jobs = 0;                          // units that are compiled at once; 0: as many as there are CPUs
  const toolchain::Compiler* compiler = nullptr;  // null: the one that this machine has for the target
  // For benchmarks: numbers that replace those of a region's schedule, by the region's name.
  std::map<std::string, codegen::Schedule> schedules{};
  std::string dump_folder;  // graphs before and after each pass, sources, programs, schedules; empty: none
};

struct StepTiming {
  std::string step;
  double capture_seconds = 0;  // capture, passes, lowering
};

// What a kernel takes of a card.
struct RegionResources {
  std::string step;
  std::string region;
  ir::NodeId node = ir::kNoNode;
  toolchain::KernelResources kernel;
  int64_t launch_shared_bytes = 0;  // that its launch asks for, beside what its text declares
};

struct CompileReport {
  std::vector<StepTiming> steps;
  double machine_code_seconds = 0;  // the compiler's processes, all steps together, candidates included
  double tune_seconds = 0;          // measuring candidates, their compiling included
  std::vector<std::string> graph_breaks;
  std::vector<RegionResources> resources;  // of all kernels of which the compiler said something: NVRTC's
};

class Compiler {
 public:
  // `store` outlives the compiler.
  Compiler(store::Store& store, CompilerOptions options);

  // Programs of these steps, in order, all in the store afterwards, under the family's profile and, where
  // that is a device's own, under the default profile too.
  // Errors: Unsupported for a graph break with fullgraph; NotFound where there is no compiler; ToolFailed.
  std::vector<program::Program> Compile(std::span<const preload::StepSpec> steps);

  const preload::CompileCounters& counters() const { return counters_; }
  const CompileReport& report() const { return report_; }

 private:
  struct Draft;  // a step on its way to a program
  // How a step runs.
  struct Way {
    std::optional<codegen::Schedule> persistent;  // a decode step as one kernel: see Lower
    bool heuristics = false;  // its regions that do not have one row, whatever was measured of them
  };

  Draft Prepare(const preload::StepSpec& step);
  void ChooseStep(Draft& draft);
  Choice ChooseRegion(const Draft& draft, const Way& way, ir::NodeId node) const;
  codegen::Schedule SchedulesOf(const Draft& draft, const Way& way) const;
  LoweredStep LowerDraft(const Draft& draft, const Way& way, Dump& dump);
  std::vector<ScheduleChooser::Region> RegionsOf(std::span<const Draft> drafts) const;
  void Measure(std::span<Draft> drafts);
  void MeasurePrompts(std::span<Draft> drafts);
  ir::Graph Capture(const preload::StepSpec& step, Dump& dump);
  // Of one region's code.
  std::vector<RegionResources> ResourcesOf(const Draft& draft, const RegionUnit& unit,
                                           const std::string& hash);
  void Store(const preload::StepSpec& step, const program::Program& program);

  store::Store& store_;
  CompilerOptions options_;
  codegen::Target target_;
  CodeMaker code_;
  ChooserOptions chooser_;
  ScheduleChooser schedules_;
  preload::CompileCounters counters_;
  CompileReport report_;
};

}  // namespace preheat::compile
