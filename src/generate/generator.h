// Prompt ids to new tokens, one at a time, from whatever runs the steps.
//
// Not thread-safe. Text is a matter of the caller's on_token; see TextStream for the usual one.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "session/step_runner.h"

namespace preheat::generate {

struct Sampling {
  double temperature = 0;  // 0: greedy
  int64_t top_k = 0;       // 0: off
  double top_p = 1;        // 1: off
  uint64_t seed = 0;
};

struct GenerateOptions {
  int64_t max_new_tokens = 128;
  int64_t bucket = 0;             // the padded prompt length; 0: none
  bool fixed_new_tokens = false;  // end tokens cannot be chosen
  bool ignore_end = false;        // end tokens can be chosen, and generation goes on
  std::vector<int32_t> end_tokens;
  Sampling sampling;
  std::function<void(int32_t)> on_token;  // each new token as it comes, an end token included; may be empty
  std::function<bool()> cancelled;        // asked between tokens; may be empty
};

enum class StopReason { kLength, kEndToken, kCancelled };

struct Generation {
  std::vector<int32_t> ids;  // new tokens, the end token included
  StopReason stop = StopReason::kLength;
  double first_token_seconds = 0;  // from the call until the first new token was known
  double seconds = 0;              // the whole call
};

// Starts from an empty cache. Errors: InvalidArgument where prompt and new tokens do not fit into the
// runner's cache, where there are more end tokens than can be banned, or where the prompt is empty.
Generation Generate(session::StepRunner& runner, std::span<const int32_t> prompt,
                    const GenerateOptions& options);

}  // namespace preheat::generate
