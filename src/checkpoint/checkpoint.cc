#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "checkpoint/json_fields.h"
#include "sys/files.h"

namespace preheat::checkpoint {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr uint64_t kLargestIndexBytes = uint64_t{256} << 20;

bool StaysInFolder(std::string_view path) {
  if (path.empty() || path.front() == '/' || path.find('\0') != std::string_view::npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (path.substr(begin, end - begin) == "..") return false;
    begin = end + 1;
  }
  return true;
}

// Tensor name to file name, from model.safetensors.index.json.
std::map<std::string, std::string> ReadIndex(const std::string& path) {
  const rapidjson::Document document = ParseJsonObject(sys::ReadFile(path, kLargestIndexBytes), path);
  const JsonFields fields(document, path);
  const rapidjson::Value* map = fields.Find("weight_map");
  if (map == nullptr || !map->IsObject() || map->ObjectEmpty()) {
    fields.FailField("weight_map", "an object from tensor names to file names belongs there");
  }
  std::map<std::string, std::string> result;
  for (const auto& member : map->GetObject()) {
    const std::string name(member.name.GetString(), member.name.GetStringLength());
    if (!member.value.IsString()) {
      throw MakeError(ErrorKind::kCorrupt, "{}: tensor \"{}\" is in {}; a file name belongs there", path,
                      name, DescribeJson(member.value));
    }
    std::string file(member.value.GetString(), member.value.GetStringLength());
    if (!StaysInFolder(file)) {
      throw MakeError(ErrorKind::kCorrupt,
                      "{}: tensor \"{}\" is in \"{}\", outside of the model's folder; do not use it", path,
                      name, file);
    }
    if (!result.emplace(name, std::move(file)).second) {
      throw MakeError(ErrorKind::kCorrupt, "{}: tensor \"{}\" stands twice", path, name);
    }
  }
  return result;
}

bool IsHarmless(std::string_view name, const ModelConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") || (name == kHead && config.tie_word_embeddings);
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  std::vector<ExpectedTensor> tensors;
  tensors.push_back({std::string(kEmbedding), {config.vocab_size, hidden}});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto add = [&](std::string_view name, tensor::Shape shape) {
      tensors.push_back({fmt::format("model.layers.{}.{}", layer, name), std::move(shape)});
    };
    const auto linear = [&](std::string_view name, int64_t out, int64_t in, bool bias) {
      add(fmt::format("{}.weight", name), {out, in});
      if (bias) add(fmt::format("{}.bias", name), {out});
    };
    add("input_layernorm.weight", {hidden});
    linear("self_attn.q_proj", config.q_size(), hidden, config.attention_bias);
    linear("self_attn.k_proj", config.kv_size(), hidden, config.attention_bias);
    linear("self_attn.v_proj", config.kv_size(), hidden, config.attention_bias);
    linear("self_attn.o_proj", hidden, config.q_size(), config.attention_bias);
    add("post_attention_layernorm.weight", {hidden});
    linear("mlp.gate_proj", inner, hidden, config.mlp_bias);
    linear("mlp.up_proj", inner, hidden, config.mlp_bias);
    linear("mlp.down_proj", hidden, inner, config.mlp_bias);
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.tie_word_embeddings) tensors.push_back({std::string(kHead), {config.vocab_size, hidden}});
  return tensors;
}

Checkpoint Checkpoint::Open(const std::string& folder) {
  if (!sys::IsFolder(folder)) {
    throw MakeError(ErrorKind::kNotFound,
                    "model folder: {}: {}; name a folder with config.json and safetensors", folder,
                    sys::Exists(folder) ? "is not a folder" : "no such folder");
  }
  const std::string config_path = sys::JoinPath(folder, "config.json");
  if (!sys::Exists(config_path)) {
    throw MakeError(ErrorKind::kNotFound,
                    "model folder: {}: has no config.json; name a Hugging Face model folder", folder);
  }
  Checkpoint checkpoint;
  checkpoint.folder_ = folder;
  checkpoint.config_ = ReadModelConfig(config_path);
  checkpoint.generation_config_ =
      ReadGenerationConfig(sys::JoinPath(folder, "generation_config.json")).value_or(GenerationConfig{});
  checkpoint.OpenWeights();
  return checkpoint;
}

void Checkpoint::OpenWeights() {
  const std::string single = sys::JoinPath(folder_, "model.safetensors");
  const std::string index_path = sys::JoinPath(folder_, "model.safetensors.index.json");
  std::map<std::string, std::string> index;
  std::set<std::string> names;
  if (sys::Exists(single)) {
    names.insert("model.safetensors");
  } else if (sys::Exists(index_path)) {
    index = ReadIndex(index_path);
    for (const auto& [tensor, file] : index) names.insert(file);
  } else if (sys::Exists(sys::JoinPath(folder_, "pytorch_model.bin")) ||
             sys::Exists(sys::JoinPath(folder_, "pytorch_model.bin.index.json"))) {
    throw MakeError(ErrorKind::kUnsupported,
                    "model folder: {}: its weights are pytorch_model.bin only; convert them to safetensors",
                    folder_);
  } else {
    throw MakeError(ErrorKind::kNotFound,
                    "model folder: {}: has neither model.safetensors nor model.safetensors.index.json",
                    folder_);
  }

  for (const std::string& name : names) {
    const std::string path = sys::JoinPath(folder_, name);
    if (!sys::Exists(path)) {
      throw MakeError(ErrorKind::kNotFound, "{}: names the file {}, which is not there; get it", index_path,
                      name);
    }
    files_.push_back(SafetensorsFile::Open(path));
  }
  // Entries live in vectors of files that no longer move.
  for (size_t file = 0; file < files_.size(); ++file) {
    for (const SafetensorsEntry& entry : files_[file].entries()) {
      if (!where_.emplace(entry.name, Place{file, &entry}).second) {
        throw MakeError(ErrorKind::kCorrupt, "{}: tensor \"{}\" is in another shard, too; get the files anew",
                        files_[file].path(), entry.name);
      }
    }
  }
  for (const auto& [tensor, file] : index) {
    const auto place = where_.find(tensor);
    if (place == where_.end() || files_[place->second.file].path() != sys::JoinPath(folder_, file)) {
      throw MakeError(ErrorKind::kCorrupt,
                      "{}: tensor \"{}\" is not in {}, where the index says; get the files anew", index_path,
                      tensor, file);
    }
  }
}

const std::vector<int64_t>& Checkpoint::EosTokenIds() const {
  return generation_config_.eos_token_ids.empty() ? config_.eos_token_ids : generation_config_.eos_token_ids;
}

const Checkpoint::Place& Checkpoint::Locate(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end()) {
    throw MakeError(ErrorKind::kNotFound,
                    "model folder: {}: tensor \"{}\" is missing; are all weights there?", folder_, name);
  }
  return found->second;
}

tensor::DType Checkpoint::dtype() const {
  const Place& place = Locate(kEmbedding);
  if (!place.entry->dtype || !tensor::IsFloat(*place.entry->dtype)) {
    throw MakeError(ErrorKind::kUnsupported,
                    "{}: tensor \"{}\" is of dtype {}: not supported; use BF16, F16 or F32",
                    files_[place.file].path(), kEmbedding, place.entry->dtype_name);
  }
  return *place.entry->dtype;
}

tensor::TensorView Checkpoint::Tensor(std::string_view name) const {
  const Place& place = Locate(name);
  return files_[place.file].View(*place.entry);
}

tensor::TensorView Checkpoint::Tensor(std::string_view name, const tensor::Shape& shape) const {
  const Place& place = Locate(name);
  const SafetensorsEntry& entry = *place.entry;
  if (entry.shape != shape) {
    throw MakeError(ErrorKind::kCorrupt, "{}: tensor \"{}\" has the shape {}, where config.json asks for {}",
                    files_[place.file].path(), name, entry.shape.ToString(), shape.ToString());
  }
  const tensor::DType expected = dtype();
  if (entry.dtype != expected) {
    throw MakeError(ErrorKind::kCorrupt,
                    "{}: tensor \"{}\" is of dtype {}, where \"{}\" is of {}; one type for all is needed",
                    files_[place.file].path(), name, entry.dtype_name, kEmbedding,
                    tensor::SafetensorsName(expected));
  }
  return files_[place.file].View(entry);
}

std::string Checkpoint::HeadName() const {
  return std::string(config_.tie_word_embeddings ? kEmbedding : kHead);
}

void Checkpoint::CheckComplete() const {
  std::set<std::string, std::less<>> expected;
  std::optional<base::Error> first;
  int faults = 0;
  for (const ExpectedTensor& tensor : ExpectedTensors(config_)) {
    try {
      Tensor(tensor.name, tensor.shape);
    } catch (const base::Error& error) {
      if (!first) first = error;
      ++faults;
    }
    expected.insert(tensor.name);
  }
  for (const auto& [name, place] : where_) {
    if (expected.count(name) != 0 || IsHarmless(name, config_)) continue;
    if (!first) {
      first = MakeError(
          ErrorKind::kCorrupt,
          "{}: tensor \"{}\" belongs to no Llama of this config.json; are config and weights of one model?",
          files_[place.file].path(), name);
    }
    ++faults;
  }
  if (!first) return;
  if (faults == 1) throw *first;
  throw base::Error(first->kind(), fmt::format("{} (and {} more such faults)", first->message(), faults - 1));
}

int64_t Checkpoint::weight_bytes() const {
  int64_t bytes = 0;
  for (const SafetensorsFile& file : files_) bytes += static_cast<int64_t>(file.data().size());
  return bytes;
}

std::vector<std::span<const std::byte>> Checkpoint::DataSpans() const {
  std::vector<std::span<const std::byte>> spans;
  for (const SafetensorsFile& file : files_) spans.push_back(file.data());
  return spans;
}

double Checkpoint::ResidentFraction() const {
  double resident = 0;
  for (const SafetensorsFile& file : files_) {
    resident += sys::ResidentFraction(file.data()) * static_cast<double>(file.data().size());
  }
  const int64_t bytes = weight_bytes();
  return bytes == 0 ? 1.0 : resident / static_cast<double>(bytes);
}

}  // namespace preheat::checkpoint
