// A session: programs bound to weights, activations and a KV cache on one device.
//
// It knows program data and the device, nothing of models or compilers. Weights are used where they lie;
// activations share one arena; the KV cache is one slab whose layout is the programs'. Not thread-safe: the
// device's threads work inside Prefill and Decode.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "program/program.h"
#include "session/memory_plan.h"
#include "session/step_runner.h"

namespace preheat::session {

// Where a session gets what programs only name. Each throws Error where there is none.
struct Bindings {
  // A weight's first byte, after its dtype and shape were checked.
  std::function<const void*(const std::string& name, const program::Weight&)> weight;
  // The code image with this SHA-256; the bytes live until the session is made.
  std::function<std::span<const std::byte>(const std::string& hash)> code;
  // A kernel of a module ("library:NAME").
  std::function<device::Kernel(const std::string& library, const std::string& entry)> library;
  // After each step: throws what went wrong inside a module's kernels, which cannot throw. May be empty.
  std::function<void()> check_step = nullptr;
  // Before the first step: returns when the weights are where they were promised. May be empty.
  std::function<void()> await_weights = nullptr;
};

class BoundProgram;

class Session final : public StepRunner {
 public:
  // Errors: Incompatible where the programs do not agree on cache, vocabulary or layers; what the bindings
  // and the device throw. REQUIRES: at least one program; `device` outlives the session.
  Session(device::Device& device, std::vector<program::Program> programs, const Bindings& bindings,
          const SessionOptions& options);
  ~Session() override;

  void Begin(const ph_state& state) override;
  void Prefill(std::span<const int32_t> ids, int64_t bucket) override;
  void Decode() override;
  void DecodeUntil(int64_t steps, const std::function<bool(int32_t token)>& take) override;
  int32_t token() override;
  void SetToken(int32_t token) override;
  std::span<const float> logits() override;
  int64_t length() const override { return length_; }
  int64_t capacity() const override { return plan_.capacity; }

  // Begin with `length` positions that are taken for cached, whatever lies there: for measuring. The next
  // token is 0.
  void Resume(int64_t length);

 private:
  // A decode step may run before the token of the last is known to the host, and so many more at most.
  static constexpr int64_t kStepsAhead = 2;

  BoundProgram& BoundFor(int64_t rows, int64_t bucket);
  BoundProgram& BoundForDecode();
  void RunPiece(BoundProgram& bound, std::span<const int32_t> ids);
  void LaunchDecode();
  void RecordDecode(BoundProgram& bound);
  void CheckRoom(int64_t rows) const;
  void AwaitWeights();
  enum class Report { kNo, kYes };
  void Restart();
  void WriteState(Report report);
  int32_t TokenOf(int32_t steps);
  void Allocate(const std::vector<program::Program>& programs);
  std::vector<std::byte*> AllocateOwn(size_t program);
  void ExtendRotary(int64_t positions);

  device::Device& device_;
  SessionOptions options_;
  std::function<void()> check_step_;
  std::function<void()> await_weights_;  // empty once they are there
  std::unique_ptr<device::CodeModule> code_;
  std::vector<std::unique_ptr<BoundProgram>> programs_;

  MemoryPlan plan_;
  int64_t length_ = 0;
  int64_t vocab_size_ = 0;
  int64_t layers_ = 0;
  int64_t logit_rows_ = 1;  // of the last step
  ph_state state_{};        // as the device's is when its steps are done, the token apart

  device::Buffer activations_;
  std::vector<device::Buffer> own_;  // buffers that share their memory with none
  device::Buffer cache_;             // [layers][keys, then values]
  device::Buffer rotary_;            // f32 [capacity, 2, half]
  device::Buffer ids_;
  device::Buffer state_block_;
  device::Buffer logits_;
  std::vector<float> host_logits_;
  std::unique_ptr<device::Recording> recorded_decode_;
  program::RotaryTable rotary_table_;
  int64_t rotary_positions_ = 0;  // rows of the rotary table that are filled in
};

}  // namespace preheat::session
