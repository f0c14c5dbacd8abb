#include "generate/generator.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "sys/clock.h"

namespace preheat::generate {
namespace {

using base::ErrorKind;
using base::MakeError;

// `ids` to the token lists of a state, which have room for so many.
template <size_t kMost>
void SetIds(const std::vector<int32_t>& ids, int32_t (&list)[kMost], int32_t& count) {
  count = static_cast<int32_t>(std::min(ids.size(), kMost));
  std::copy_n(ids.begin(), count, list);
}

ph_state MakeState(const GenerateOptions& options) {
  ph_state state{};
  state.seed = options.sampling.seed;
  state.temperature = static_cast<float>(options.sampling.temperature);
  state.top_p = static_cast<float>(options.sampling.top_p);
  state.top_k = static_cast<int32_t>(options.sampling.top_k);
  // More end tokens than fit are found by the host all the same.
  if (!options.ignore_end) SetIds(options.end_tokens, state.end, state.end_count);
  if (!options.fixed_new_tokens) return state;
  if (options.end_tokens.size() > std::size(state.banned)) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "{} end tokens: a fixed number of new tokens can exclude at most {}",
                    options.end_tokens.size(), std::size(state.banned));
  }
  SetIds(options.end_tokens, state.banned, state.banned_count);
  return state;
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
  // False where no more is wanted.
  const auto take = [&](int32_t token) {
    generation.ids.push_back(token);
    if (options.on_token) options.on_token(token);
    const bool end =
        std::find(options.end_tokens.begin(), options.end_tokens.end(), token) != options.end_tokens.end();
    if (end && !options.ignore_end) {
      generation.stop = StopReason::kEndToken;
      return false;
    }
    if (static_cast<int64_t>(generation.ids.size()) == options.max_new_tokens) return false;
    if (options.cancelled && options.cancelled()) {
      generation.stop = StopReason::kCancelled;
      return false;
    }
    return true;
  };
  runner.Begin(MakeState(options));
  runner.Prefill(prompt, options.bucket);
  const int32_t first = runner.token();
  generation.first_token_seconds = sys::MonotonicSeconds() - start;
  if (take(first)) runner.DecodeUntil(options.max_new_tokens - 1, take);
  generation.seconds = sys::MonotonicSeconds() - start;
  return generation;
}

}  // namespace preheat::generate
