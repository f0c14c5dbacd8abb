// A checkpoint compiled and bound to a session, for tests.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "compile/compiler.h"
#include "device/cpu/cpu_device.h"
#include "preload/program_key.h"
#include "session/session.h"
#include "store/store.h"

namespace preheat::testing {

struct CompiledModelOptions {
  std::string target;
  std::string dtype;  // "": the checkpoint's own
  std::vector<preload::StepSpec> steps = {preload::StepSpec::AllLogits(), preload::StepSpec::Decode()};
  bool fullgraph = true;
  bool probe_layers = false;
  std::map<std::string, codegen::Schedule> schedules;  // as compile::CompilerOptions::schedules
  int64_t capacity = 512;
  int threads = 2;
  int capability = 0;  // of a card that is this machine, times 10; 0: the target's
};

class CompiledModel {
 public:
  // Finds the steps' programs in `store`, or compiles them into it. `checkpoint` and `store` outlive it.
  CompiledModel(const checkpoint::Checkpoint& checkpoint, store::Store& store,
                const CompiledModelOptions& options);

  session::Session& session() { return *session_; }
  // What compiling did; nothing where everything was found.
  const preload::CompileCounters& counters() const { return counters_; }
  const compile::CompileReport& report() const { return report_; }
  const std::vector<program::Program>& programs() const { return programs_; }
  tensor::DType dtype() const { return dtype_; }

 private:
  tensor::DType dtype_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<device::Weights> weights_;
  preload::CompileCounters counters_;
  compile::CompileReport report_;
  std::vector<program::Program> programs_;
  std::vector<store::EntryBytes> held_;
  std::unique_ptr<session::Session> session_;
};

// The targets whose code this machine's processor runs, or, where $PREHEAT_TEST_CARD names a device (cuda:0),
// that card: the best machine code first, PTX last. Without it, models for CUDA targets run on a card that is
// this machine (host_cuda.h).
std::vector<std::string> RunnableTargets();

}  // namespace preheat::testing
