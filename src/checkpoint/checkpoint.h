// A model folder in Hugging Face layout: config.json, and weights in model.safetensors or in shards that
// model.safetensors.index.json lists. Opening maps the files and reads headers only; weights are read where
// they lie.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/safetensors.h"
#include "tensor/shape.h"
#include "tensor/tensor_view.h"

namespace preheat::checkpoint {

struct ExpectedTensor {
  std::string name;
  tensor::Shape shape;  // matrices are [out, in]
};

// Every tensor that a Llama of this config has, embedding first, then layer by layer, then final norm and,
// where it is not tied, head. Names are transformers'.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config);

// Movable, not copyable; const use is thread-safe. Views stay valid as long as the checkpoint, also when it
// is moved.
class Checkpoint {
 public:
  // kNotFound: no folder, config.json, weights, or a shard that the index names. kCorrupt: malformed files,
  // an index that disagrees with its shards or names a path outside of the folder. kUnsupported: see
  // config.h; weights that are there in another format only.
  static Checkpoint Open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  const ModelConfig& config() const { return config_; }
  const GenerationConfig& generation_config() const { return generation_config_; }
  // generation_config.json's end tokens, else config.json's.
  const std::vector<int64_t>& EosTokenIds() const;

  // The type of the weights: that of the embedding. kNotFound without one, kUnsupported where it is not F32,
  // BF16, F16.
  tensor::DType dtype() const;

  bool Has(std::string_view name) const { return where_.find(name) != where_.end(); }
  // kNotFound: no such tensor. kCorrupt: another shape, or another type than dtype(); the message has both.
  tensor::TensorView Tensor(std::string_view name, const tensor::Shape& shape) const;
  // As it is in the file, whatever its shape.
  tensor::TensorView Tensor(std::string_view name) const;

  // The matrix [vocab_size, hidden_size] of the head: the embedding where they are tied, even if the file has
  // both.
  std::string HeadName() const;

  // Every expected tensor is there with its shape and dtype(), and nothing else that could matter. kNotFound,
  // kCorrupt name the first fault and count the others. Unknown tensors are kCorrupt, except those known to
  // be harmless: rotary inv_freq buffers and a head beside a tied embedding.
  void CheckComplete() const;

  // Bytes of all tensors in the files.
  int64_t weight_bytes() const;
  // The share of the weights that is in the page cache.
  double ResidentFraction() const;
  // The mapped tensor data, a span a file: for advice to the kernel and for uploads.
  std::vector<std::span<const std::byte>> DataSpans() const;

 private:
  struct Place {
    size_t file;
    const SafetensorsEntry* entry;
  };

  void OpenWeights();
  const Place& Locate(std::string_view name) const;

  std::string folder_;
  ModelConfig config_;
  GenerationConfig generation_config_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place, std::less<>> where_;
};

}  // namespace preheat::checkpoint
