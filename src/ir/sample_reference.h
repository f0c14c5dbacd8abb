// How the next token is chosen: the exact definition of the Sample operation, the same on every device.
// Floats are IEEE binary32, each operation rounded to nearest even once, fma fused; sums of weights are exact
// integers.
//
// Candidates are the ids that are not in banned[0 .. clamp(banned_count, 0, 16)) and whose logit is not NaN.
// M is their largest logit; -0 equals +0.
//
// 1. Where not (temperature > 0), or M is infinite: the lowest candidate whose logit is M. Without
// candidates: the
//    lowest id that is not banned; where all are, 0.
// 2. Else each candidate has an integer weight from 0 to 2^30, in proportion to exp((x - M) / temperature):
//      c = 1.44269504f / max(temperature, 1e-6f);  t = max((x - M) * c, -40);  n = t rounded to an integer;
//      f = t - n p = 2^f by a polynomial of degree 6 (Horner, fma);  weight = floor(p * 2^(n + 30))
// 3. top_k > 0: logits below the top_k-th largest get weight 0; equals of that one stay, as in transformers.
// 4. top_p < 1: a candidate stays where the weights of all with a larger logit sum to less than top_p * (sum
// of all
//    weights that are left), in binary64; candidates with the logit M always stay.
// 5. u = the first word of Philox4x32-10 with counter (steps, 0, 0, 0) and key (low, high half of seed),
// shifted right
//    by 8; r = (u * total) >> 24. The token is the first, in id order, at which the running sum of weights
//    exceeds r.
//
// Philox: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
// https://doi.org/10.1145/2063384.2063405.
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
