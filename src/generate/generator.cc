#include "generate/generator.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "sys/clock.h"

namespace preheat::generate {
namespace {

using base::ErrorKind;
using base::MakeError;

void SetState(ph_state& state, const GenerateOptions& options) {
  state = ph_state{};
  state.seed = options.sampling.seed;
  state.temperature = static_cast<float>(options.sampling.temperature);
  state.top_p = static_cast<float>(options.sampling.top_p);
  state.top_k = static_cast<int32_t>(options.sampling.top_k);
  if (!options.fixed_new_tokens) return;
  if (options.end_tokens.size() > std::size(state.banned)) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "{} end tokens: a fixed number of new tokens can exclude at most {}",
                    options.end_tokens.size(), std::size(state.banned));
  }
  state.banned_count = static_cast<int32_t>(options.end_tokens.size());
  std::copy(options.end_tokens.begin(), options.end_tokens.end(), state.banned);
}

}  // namespace

Generation Generate(session::StepRunner& runner, std::span<const int32_t> prompt,
                    const GenerateOptions& options) {
  if (prompt.empty()) {
    throw MakeError(ErrorKind::kInvalidArgument, "the prompt has no tokens: give at least one id");
  }
  // The last new token is never fed back, so it needs no room.
  const int64_t positions = static_cast<int64_t>(prompt.size()) + options.max_new_tokens - 1;
  if (positions > runner.capacity()) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "{} prompt tokens and {} new ones do not fit into a KV cache of {}", prompt.size(),
                    options.max_new_tokens, runner.capacity());
  }
  const double start = sys::MonotonicSeconds();
  Generation generation;
  runner.Reset();
  SetState(runner.state(), options);
  runner.Prefill(prompt, options.bucket);
  generation.first_token_seconds = sys::MonotonicSeconds() - start;
  while (true) {
    const int32_t token = runner.state().token;
    generation.ids.push_back(token);
    if (options.on_token) options.on_token(token);
    const bool end =
        std::find(options.end_tokens.begin(), options.end_tokens.end(), token) != options.end_tokens.end();
    if (end && !options.ignore_end) {
      generation.stop = StopReason::kEndToken;
      break;
    }
    if (static_cast<int64_t>(generation.ids.size()) == options.max_new_tokens) break;
    if (options.cancelled && options.cancelled()) {
      generation.stop = StopReason::kCancelled;
      break;
    }
    runner.Decode();
  }
  generation.seconds = sys::MonotonicSeconds() - start;
  return generation;
}

}  // namespace preheat::generate
