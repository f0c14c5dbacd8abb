// Rotary embedding: the inverse frequencies, bit for bit the way transformers computes them (fp32).
// Source: transformers/modeling_rope_utils.py, _compute_default_rope_parameters and
// _compute_llama3_parameters.
#pragma once

#include <vector>

#include "checkpoint/config.h"

namespace preheat::checkpoint {

// [head_dim / 2]. Position p turns pair i (elements i and i + head_dim/2) by p * InvFreq[i].
std::vector<float> InvFreq(const ModelConfig& config);
// The factor on cos and sin: 1 for both kinds that are supported.
float RopeAttentionScaling(const ModelConfig& config);

}  // namespace preheat::checkpoint
