#include "checkpoint/rope.h"

#include <cmath>
#include <numbers>

namespace preheat::checkpoint {
namespace {

// All in fp32, in the order of the torch expression: a Python scalar does not widen a float32 tensor, and
// scalar / tensor is the tensor's reciprocal times the scalar.
float Llama3Scaled(float inv_freq, const RopeConfig& rope) {
  const double original = static_cast<double>(rope.original_max_position_embeddings);
  const float low_wavelength = static_cast<float>(original / rope.low_freq_factor);
  const float high_wavelength = static_cast<float>(original / rope.high_freq_factor);
  const float wavelength = (1.0f / inv_freq) * static_cast<float>(2 * std::numbers::pi);
  const float factor = static_cast<float>(rope.factor);
  if (wavelength < high_wavelength) return inv_freq;
  if (wavelength > low_wavelength) return inv_freq / factor;
  const float low = static_cast<float>(rope.low_freq_factor);
  const float span = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  const float smooth = ((1.0f / wavelength) * static_cast<float>(original) - low) / span;
  return (1.0f - smooth) * inv_freq / factor + smooth * inv_freq;
}

}  // namespace

std::vector<float> InvFreq(const ModelConfig& config) {
  std::vector<float> result;
  const float base = static_cast<float>(config.rope.theta);
  for (int64_t i = 0; i < config.head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(config.head_dim);
    const float inv_freq = 1.0f / std::pow(base, exponent);
    switch (config.rope.kind) {
      case RopeKind::kDefault:
        result.push_back(inv_freq);
        break;
      case RopeKind::kLlama3:
        result.push_back(Llama3Scaled(inv_freq, config.rope));
        break;
    }
  }
  return result;
}

float RopeAttentionScaling(const ModelConfig& config) {
  switch (config.rope.kind) {
    case RopeKind::kDefault:
    case RopeKind::kLlama3:
      return 1.0f;
  }
  return 1.0f;
}

}  // namespace preheat::checkpoint
