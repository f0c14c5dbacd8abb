// How the next token is chosen: the exact definition of the Sample operation, the same on every device.
//
// 1. Ids in state.banned cannot be chosen; if that leaves none, the ban is void.
// 2. temperature 0: the largest logit, the lowest id among equals. A NaN counts as -infinity.
// 3. Else s = logit / temperature. top_k > 0 keeps what is not smaller than the k-th largest s (equals stay).
//    top_p < 1 keeps an id where the probabilities (softmax over what is left) of all strictly larger s sum
//    to less than top_p; the largest always stays. transformers' TopKLogitsWarper and TopPLogitsWarper, but
//    for equals.
// 4. u = (x0 >> 8) / 2^24, where x0 is the first word of Philox4x32-10 (Salmon et al., "Parallel Random
// Numbers: As
//    Easy as 1, 2, 3", SC 2011) with key (seed low, seed high) and counter (steps, 0, 0, 0). The token is the
//    first kept id, in id order, whose running sum of exp(s - max) exceeds u times the whole sum.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "abi/kernel_abi.h"

namespace preheat::ir {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Does not change the state. REQUIRES: logits are not empty.
int32_t SampleToken(std::span<const float> logits, const ph_state& state);

}  // namespace preheat::ir
