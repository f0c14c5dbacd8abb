// A model made ready to generate: what run, a benchmark's child and preheat-run have in common.
//
// Opening goes in the order in which things are needed: model folder, artifact, device, prompt, programs for
// just this prompt, session; the tokenizer is made ready beside the first three. What only the full binary
// can do (compile, run eager, interpret) comes in as Backends, so that the runtime binary links none of it.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "artifact/artifact.h"
#include "checkpoint/checkpoint.h"
#include "cli/options.h"
#include "cli/tokenizer_task.h"
#include "device/device.h"
#include "device/open.h"
#include "generate/generator.h"
#include "preload/metadata.h"
#include "preload/provide.h"
#include "preload/step_plan.h"
#include "session/session.h"
#include "session/step_runner.h"
#include "store/store.h"
#include "tokenizer/tokenizer.h"

namespace preheat::cli {

// What a backend gets to know.
struct BackendContext {
  const checkpoint::Checkpoint& checkpoint;
  tensor::DType dtype;
  program::LogitRows logit_rows;
  bool fullgraph;
  device::Device& device;
  store::Store& store;
  preload::CompileCounters& counters;
  int threads;
  bool may_compile = true;
};

struct Backends {
  std::function<preload::CompileFunction(const BackendContext&)> compile;
  // Programs of library calls, and the bindings of their kernels.
  struct Library {
    std::vector<program::Program> programs;
    std::function<device::Kernel(const std::string& library, const std::string& entry)> resolve;
    std::function<void()> check_step;
    std::function<void()> release;  // before the checkpoint is unmapped
    std::vector<std::string> notes;
  };
  std::function<Library(const BackendContext&)> eager;
  // Kernels for graph breaks inside compiled programs.
  std::function<std::function<device::Kernel(const std::string&, const std::string&)>(const BackendContext&)>
      breaks;
  std::function<std::unique_ptr<session::StepRunner>(const BackendContext&, int64_t capacity)> interpreter;
};

struct EngineRequest {
  const SharedOptions& shared;
  const GenerationOptions& generation;
  bool load_artifacts = true;
  program::LogitRows logit_rows =
      program::LogitRows::kLast;  // kAll: every row's, by the program of any length
  bool want_residency = false;    // find out how much of the weights is in the page cache
};

class Engine {
 public:
  // A prompt of no bucket runs in pieces of at most this many tokens: enough for full arithmetic speed,
  // little enough memory.
  static constexpr int64_t kPieceRows = 512;

  // Errors: whatever is wrong with the model, the artifact, the machine or the request.
  Engine(const EngineRequest& request, const Backends& backends);
  ~Engine();

  session::StepRunner& runner() { return *runner_; }
  const checkpoint::Checkpoint& checkpoint() const { return *checkpoint_; }
  // Empty where the model has none and the prompt was given as ids.
  const std::optional<tokenizer::Tokenizer>& tokenizer() const { return tokenizer_; }
  const std::vector<int32_t>& prompt() const { return prompt_; }
  int64_t bucket() const { return plan_.bucket; }  // 0: not padded
  // Everything but on_token and cancelled.
  generate::GenerateOptions MakeGenerateOptions(const GenerationOptions& generation,
                                                bool fixed_new_tokens) const;
  // Lines that the user should see before the results.
  const std::vector<std::string>& notes() const { return notes_; }

  // What reports say.
  struct Facts {
    int64_t artifact_bytes = 0;
    double artifact_load_seconds = 0;
    double tokenizer_load_seconds = 0;
    double model_load_seconds = 0;
    double page_cache_resident = 0;
    std::string dtype;
    std::string device;
    std::string target;
    std::vector<int64_t> buckets;
    int64_t build_decode_length = 0;  // 0: not known
  };
  const Facts& facts() const { return facts_; }
  const preload::CompileCounters& counters() const { return counters_; }

 private:
  void OpenModel();
  void OpenArtifact();
  void StartDevice();
  void CheckModel();
  void TakeDevice();
  void CompareWithBuild();
  void TakeTokenizer();
  void MakePrompt();
  void PlanSteps();
  void MakeRunner();
  void MakeCompiledRunner();
  void CheckLengths() const;
  std::vector<store::EntrySource*> Sources();
  std::vector<std::string> Targets() const;
  bool HasCodeForDevice() const;
  void CheckArtifactFits() const;
  preload::Provision FindOrCompile(store::EntrySource& source, const preload::CompileFunction& compile);
  preload::Provision Provide(store::EntrySource& source, const preload::CompileFunction& compile);
  session::Bindings MakeBindings(store::EntrySource& source);
  int64_t Capacity() const;

  const EngineRequest request_;
  const Backends backends_;
  std::optional<checkpoint::Checkpoint> checkpoint_;
  tensor::DType dtype_ = tensor::DType::kF32;
  std::optional<preload::Metadata> metadata_;
  std::optional<artifact::Artifact> artifact_;
  store::Store store_;
  std::vector<store::EntryBytes> held_;  // entry bytes that something points into
  std::optional<TokenizerTask> tokenizer_task_;
  std::optional<tokenizer::Tokenizer> tokenizer_;
  std::vector<int32_t> prompt_;
  preload::StepPlan plan_;
  std::future<std::unique_ptr<device::Device>> device_task_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<device::Weights> weights_;
  preload::ProgramFamily family_;
  preload::CompileCounters counters_;
  std::unique_ptr<session::StepRunner> runner_;
  std::function<void()> release_library_;
  std::vector<std::string> notes_;
  Facts facts_;
};

// True where the compile mode measures candidates.
bool ModeTunes(const std::string& mode);
// Of opening a device for a run with this artifact, whose PTX counts.
device::OpenOptions OpenOptionsWith(const std::string& artifact_path);
// The type of the arithmetic for --dtype. Errors: Unsupported for a type that the weights would have to be
// converted to.
tensor::DType ChooseDType(const std::string& option, tensor::DType weights);
// Programs of the device's model where the mode measures schedules, else of the default profile; no target
// yet.
preload::ProgramFamily MakeFamily(const checkpoint::Checkpoint& checkpoint, tensor::DType dtype,
                                  const std::string& mode, const device::Device& device);
// What the metadata of a run with these options would say, as far as compatibility is concerned.
preload::Metadata DescribeRun(const SharedOptions& shared, tensor::DType dtype, const device::Device& device);
}  // namespace preheat::cli
