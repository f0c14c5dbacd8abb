// Writes a random checkpoint of a given shape: config.json, generation_config.json, weights, and a byte-level
// tokenizer, so that text goes in and out. Benchmarks need no licensed weights: speed does not depend on what
// the numbers are.
//
// Matrices are N(0, 0.02), those that write to the residual stream (o_proj, down_proj) smaller by sqrt(2 x
// layers), as GPT-2 has it, so that activations neither grow nor vanish over the layers; norm weights are 1 +
// N(0, 0.1), biases N(0, 0.02). The same options give the same bytes, whatever the number of threads and
// shards.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "tensor/dtype.h"

namespace preheat::checkpoint {

// "llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b".
std::vector<std::string_view> SynthShapeNames();

// One of those names, or the path of a config.json. kInvalidArgument for a name that is neither; see config.h
// for files.
ModelConfig SynthShape(const std::string& name_or_path);

struct SynthOptions {
  ModelConfig config;
  tensor::DType dtype = tensor::DType::kBf16;  // kBf16, kF16 or kF32
  uint64_t seed = 0;
  int shards = 1;
  std::string folder;  // must not exist, or be empty
  int threads = 0;     // 0: as many as are worth it
  // Where it becomes true the work stops: kInterrupted, nothing is left. May be null.
  const std::atomic<bool>* cancel = nullptr;
};

struct SynthResult {
  int64_t weight_bytes = 0;
  std::vector<std::string> weight_files;  // names in the folder
};

// kInvalidArgument: the folder is not empty, a vocabulary below 258, more shards than tensors. kIo: the disk
// is too small (told before anything is written where possible) or a write failed. After an error nothing is
// left of the output. Shows progress (base/progress.h). Token ids of the config that a byte-level vocabulary
// cannot have (below 256, or outside of the vocabulary) are replaced by its last ones.
SynthResult Synthesize(const SynthOptions& options);

}  // namespace preheat::checkpoint
