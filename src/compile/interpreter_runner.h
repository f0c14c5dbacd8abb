// The reference interpreter behind the interface that generating uses: --execution interpreter.
#pragma once

#include <vector>

#include "checkpoint/checkpoint.h"
#include "ir/graph.h"
#include "ir/interpreter.h"
#include "session/step_runner.h"

namespace preheat::compile {

// Interprets a captured graph. The checkpoint outlives the runner.
class InterpreterRunner final : public session::StepRunner {
 public:
  InterpreterRunner(const checkpoint::Checkpoint& checkpoint, ir::Graph graph, int64_t capacity)
      : checkpoint_(checkpoint), graph_(std::move(graph)), capacity_(capacity) {
    Reset();
  }

  void Begin(const ph_state& state) override {
    cache_ = {};
    state_ = state;
    state_.steps = 0;
  }

  void Prefill(std::span<const int32_t> ids, int64_t) override { Step(ids); }
  void Decode() override {
    const int32_t token = state_.token;
    Step({&token, 1});
  }
  int32_t token() override { return state_.token; }
  void SetToken(int32_t token) override { state_.token = token; }
  std::span<const float> logits() override { return result_.logits; }
  int64_t length() const override { return cache_.positions; }
  int64_t capacity() const override { return capacity_; }

 private:
  void Step(std::span<const int32_t> ids);

  const checkpoint::Checkpoint& checkpoint_;
  ir::Graph graph_;
  int64_t capacity_;
  ir::KvState cache_;
  ir::StepResult result_;
  ph_state state_{};
};

}  // namespace preheat::compile
