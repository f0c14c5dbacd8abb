// Sample as generated code: the next token from logits [1, vocab] (f32) and the generation's state
// (ph_state), one tile, on one thread. The result is exactly defined, so that every device and the reference
// interpreter choose the same token from the same logits: floats are IEEE binary32, each operation rounded to
// nearest even once, fma fused.
//
// Candidates are the ids that are not banned (banned[0 .. clamp(banned_count, 0, 16)), ids that do not exist
// ban nothing) and whose logit is not NaN. M is the largest candidate's logit. -0 and +0 are equal.
//
// 1. Greedy where not (temperature > 0), or M is +-infinity: the lowest candidate whose logit is M. Without
//    candidates: the lowest id that is not banned; where all are banned, 0.
// 2. Else each candidate has a weight, an integer from 0 to 2^30 in proportion to exp((x - M) / temperature):
//      c = 1.44269504f / max(temperature, 1e-6f)
//      t = max((x - M) * c, -40);  n = (t + 12582912f) - 12582912f;  f = t - n       (n is t rounded to even)
//      p = C6;  p = fma(p, f, Ck) for k = 5 .. 0          (2^f; Ck = 1, 0.693147182f, 0.240226507f,
//           0.0555041087f, 0.00961812911f, 0.00133335581f, 0.000154035304f for k = 0 .. 6)
//      weight = p * 2^(n + 30), rounded down to an integer
//    Sums of weights are exact (64 bits).
// 3. top_k > 0: candidates with a logit below the top_k-th largest (each candidate counted, equal logits too)
// get
//    the weight 0. So equals of the last one stay, as in transformers.
// 4. top_p < 1: a candidate stays where the weights of all with a larger logit sum up to less than top_p *
// (sum of
//    all weights), both sides and the product in binary64; and those with the logit M stay. Others get 0.
// 5. u = the first word of Philox4x32-10 (https://doi.org/10.1145/2063384.2063405) with counter (steps, 0, 0,
// 0) and key
//    (low, high half of seed), shifted right by 8. r = (u * total) >> 24 in integers. The token is the first
//    in the order of ids at which the running sum of weights exceeds r.
// In the end state.token is the token, and state.steps one more.
//
// Operands: logits (read), state (read and written), workspace. Schedules: there is one, without numbers.
#pragma once

#include <vector>

#include "codegen/codegen.h"

namespace preheat::codegen::sample {

// As the functions of the same names in codegen.h, for Sample.
bool CanCompile(const ir::Graph& graph, ir::NodeId node, const Target& target);
Schedule DefaultSchedule(const ir::Graph& graph, ir::NodeId node, const Target& target,
                         const StepShape& shape);
std::vector<Schedule> Candidates(const ir::Graph& graph, ir::NodeId node, const Target& target,
                                 const StepShape& shape);
RegionCode Generate(const ir::Graph& graph, ir::NodeId node, const Target& target, const StepShape& shape,
                    const Schedule& schedule);

}  // namespace preheat::codegen::sample
