// The tokenizer of a synthetic checkpoint: token b is byte b, no merges; the model's special tokens at their
// ids; all other ids are words that text never becomes but that output can be shown with (" t4711").
#pragma once

#include <string>

#include "checkpoint/config.h"

namespace preheat::checkpoint {

// The config with bos and eos (and pad, if any) where such a vocabulary can have them: at 256 or above,
// different, inside. REQUIRES: vocab_size >= 258.
ModelConfig WithByteLevelTokenIds(ModelConfig config);

// REQUIRES: ids as WithByteLevelTokenIds leaves them. The formats are those of Hugging Face tokenizers.
std::string SynthTokenizerJson(const ModelConfig& config);
std::string SynthTokenizerConfigJson(const ModelConfig& config);
std::string SynthGenerationConfigJson(const ModelConfig& config);

}  // namespace preheat::checkpoint
