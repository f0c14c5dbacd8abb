// Whatever runs the steps of a model: a compiled or eager session, or the interpreter.
//
// A generation begins with Begin, feeds a prompt through Prefill, and goes on by Decode, each of which leaves
// a chosen token and its logits. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "abi/kernel_abi.h"

namespace preheat::session {

class StepRunner {
 public:
  virtual ~StepRunner() = default;

  // Forgets all positions. Of `state`, what says how tokens are chosen is taken: seed, temperature, top_p,
  // top_k, banned, end.
  virtual void Begin(const ph_state& state) = 0;
  // Feeds `ids` at the positions after those in the cache. `bucket` > 0: through the program of that length,
  // which must hold them; 0: through whatever fits best. Leaves logits and the chosen token.
  virtual void Prefill(std::span<const int32_t> ids, int64_t bucket) = 0;
  // Feeds the chosen token at the next position; leaves logits and the next token.
  virtual void Decode() = 0;
  // As many Decodes as `steps`, each new token given to `take`, which ends them by false. A runner may run
  // ahead of `take`, so that a device never waits for the host.
  virtual void DecodeUntil(int64_t steps, const std::function<bool(int32_t token)>& take) {
    for (int64_t i = 0; i < steps; ++i) {
      Decode();
      if (!take(token())) return;
    }
  }

  // The token chosen last.
  virtual int32_t token() = 0;
  // Puts another in its place, to be fed next.
  virtual void SetToken(int32_t token) = 0;
  // f32 [1, vocab] of the last step, or [rows, vocab] where its program computes all. Valid until the next
  // step.
  virtual std::span<const float> logits() = 0;
  // Positions in the cache, and how many it has room for.
  virtual int64_t length() const = 0;
  virtual int64_t capacity() const = 0;

  // Begin, with always the most likely token.
  void Reset() {
    ph_state state{};
    state.top_p = 1;
    Begin(state);
  }
};

}  // namespace preheat::session
