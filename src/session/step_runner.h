// Runs steps of a model: what generating tokens needs, whoever computes them (a session of compiled or eager
// programs, or the reference interpreter). Not thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "abi/kernel_abi.h"

namespace preheat::session {

class StepRunner {
 public:
  virtual ~StepRunner() = default;

  // Feeds `ids` at the positions after those in the cache. `bucket` > 0: through the program of that length,
  // which must hold them; 0: through whatever fits best. Leaves logits and the sampled state().token.
  virtual void Prefill(std::span<const int32_t> ids, int64_t bucket) = 0;
  // Feeds state().token at the next position; leaves logits and the next token.
  virtual void Decode() = 0;

  // f32 [1, vocab] of the last step, or [rows, vocab] where its program computes all.
  virtual std::span<const float> logits() const = 0;
  virtual ph_state& state() = 0;
  // Positions in the cache, and how many it has room for.
  virtual int64_t length() const = 0;
  virtual int64_t capacity() const = 0;
  // Forgets all positions.
  virtual void Reset() = 0;
};

}  // namespace preheat::session
