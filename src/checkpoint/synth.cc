#include "checkpoint/synth.h"

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <numbers>
#include <thread>

#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/synth_tokenizer.h"
#include "sys/cpu.h"
#include "sys/files.h"
#include "tensor/tensor_view.h"

namespace preheat::checkpoint {
namespace {

using base::ErrorKind;
using base::MakeError;

// Elements that one random stream makes. Part of what a seed means: changing it changes every checkpoint.
constexpr int64_t kStreamElements = 1 << 16;
// A write: large enough that the disk sees sequential work. A multiple of a stream's bytes in every type.
constexpr int64_t kWriteBytes = int64_t{8} << 20;

ModelConfig Llama3(int64_t hidden, int64_t layers, int64_t heads, int64_t intermediate) {
  ModelConfig config;
  config.hidden_size = hidden;
  config.num_hidden_layers = layers;
  config.num_attention_heads = heads;
  config.num_key_value_heads = 8;
  config.intermediate_size = intermediate;
  config.vocab_size = 128256;
  config.max_position_embeddings = 131072;
  config.rms_norm_eps = 1e-5;
  config.rope = {.kind = RopeKind::kLlama3,
                 .theta = 500000.0,
                 .factor = 32.0,
                 .low_freq_factor = 1.0,
                 .high_freq_factor = 4.0,
                 .original_max_position_embeddings = 8192};
  config.tie_word_embeddings = true;
  config.bos_token_id = 128000;
  config.eos_token_ids = {128001, 128008, 128009};
  config.head_dim = hidden / heads;
  return config;
}

struct NamedShape {
  std::string_view name;
  ModelConfig config;
};

const std::array<NamedShape, 3>& NamedShapes() {
  static const std::array<NamedShape, 3> shapes = [] {
    std::array<NamedShape, 3> all = {NamedShape{"llama-3.2-1b", Llama3(2048, 16, 32, 8192)},
                                     NamedShape{"llama-3.2-3b", Llama3(3072, 28, 24, 8192)},
                                     NamedShape{"llama-3.1-8b", Llama3(4096, 32, 32, 14336)}};
    all[2].config.rope.factor = 8.0;
    all[2].config.tie_word_embeddings = false;
    return all;
  }();
  return shapes;
}

// SplitMix64 (Steele, Lea, Flood 2014): a counter through a good mixer, so that any stream starts anywhere.
class SplitMix {
 public:
  explicit SplitMix(uint64_t state) : state_(state) {}
  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15u); }
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

// 4096 equally likely values of N(0, 1): the middles of its quantiles. 12 random bits are one value, so 64
// give five, and the table (8 to 16 KiB) stays in the first cache: a core makes them faster than a disk takes
// them.
constexpr int kQuantileBits = 12;
constexpr size_t kQuantiles = size_t{1} << kQuantileBits;

std::vector<double> NormalQuantiles() {
  std::vector<double> quantiles(kQuantiles);
  for (size_t i = 0; i < kQuantiles; ++i) {
    const double probability = (static_cast<double>(i) + 0.5) / static_cast<double>(kQuantiles);
    double low = -5, high = 5;
    for (int step = 0; step < 60; ++step) {  // 10 / 2^60 is below a double's last bit
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::numbers::sqrt2) < probability ? low : high) = middle;
    }
    quantiles[i] = low;
  }
  return quantiles;
}

// The quantiles as mean + deviation * q, in the checkpoint's type.
std::vector<std::byte> ValueTable(const std::vector<double>& quantiles, tensor::DType dtype, double mean,
                                  double deviation) {
  std::vector<float> values;
  for (const double quantile : quantiles) values.push_back(static_cast<float>(mean + deviation * quantile));
  std::vector<std::byte> table(values.size() * tensor::Bytes(dtype));
  tensor::StoreFloats(values, dtype, table);
  return table;
}

template <typename Element>
void FillStream(const std::vector<std::byte>& table, uint64_t seed, std::span<std::byte> out) {
  Element values[kQuantiles];
  std::memcpy(values, table.data(), table.size());
  SplitMix random(seed);
  auto* element = reinterpret_cast<Element*>(out.data());  // a write buffer, aligned
  for (size_t left = out.size() / sizeof(Element); left > 0;) {
    uint64_t bits = random.Next();
    const size_t count = std::min<size_t>(left, 64 / kQuantileBits);
    for (size_t i = 0; i < count; ++i, bits >>= kQuantileBits) *element++ = values[bits & (kQuantiles - 1)];
    left -= count;
  }
}

struct Tables {
  std::vector<std::byte> matrix, residual, norm;

  const std::vector<std::byte>& For(std::string_view name) const {
    if (name.ends_with("norm.weight")) return norm;
    if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) return residual;
    return matrix;
  }
};

Tables MakeTables(const SynthOptions& options) {
  const std::vector<double> quantiles = NormalQuantiles();
  const double layers = static_cast<double>(options.config.num_hidden_layers);
  return {.matrix = ValueTable(quantiles, options.dtype, 0, 0.02),
          .residual = ValueTable(quantiles, options.dtype, 0, 0.02 / std::sqrt(2 * layers)),
          .norm = ValueTable(quantiles, options.dtype, 1, 0.1)};
}

// One write: a part of a tensor.
struct Chunk {
  sys::SizedFile* file;
  uint64_t offset;  // in the file
  const std::vector<std::byte>* table;
  uint64_t tensor;         // its number among all
  uint64_t first_element;  // a multiple of kStreamElements
  int64_t bytes;
};

void FillChunk(const Chunk& chunk, const SynthOptions& options, std::span<std::byte> out) {
  const size_t stream_bytes = static_cast<size_t>(kStreamElements) * tensor::Bytes(options.dtype);
  uint64_t stream = chunk.first_element / kStreamElements;
  while (!out.empty()) {
    const std::span<std::byte> part = out.first(std::min(out.size(), stream_bytes));
    const uint64_t seed =
        SplitMix::Mix(SplitMix::Mix(SplitMix::Mix(options.seed) + chunk.tensor) + (stream++ << 1) + 1);
    if (tensor::Bytes(options.dtype) == 2) {
      FillStream<uint16_t>(*chunk.table, seed, part);
    } else {
      FillStream<uint32_t>(*chunk.table, seed, part);
    }
    out = out.subspan(part.size());
  }
}

void WriteChunks(const std::vector<Chunk>& chunks, const SynthOptions& options, int64_t total_bytes) {
  base::Progress progress("writing weights", std::max<int64_t>(total_bytes, 1));
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    std::vector<std::byte> buffer(static_cast<size_t>(kWriteBytes));
    try {
      for (size_t i; !stop && (i = next.fetch_add(1)) < chunks.size();) {
        if (options.cancel != nullptr && options.cancel->load()) {
          throw MakeError(ErrorKind::kInterrupted, "synth: stopped; nothing was kept");
        }
        const std::span<std::byte> out = std::span(buffer).first(static_cast<size_t>(chunks[i].bytes));
        FillChunk(chunks[i], options, out);
        chunks[i].file->WriteAt(chunks[i].offset, out);
        progress.Advance(chunks[i].bytes);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      stop = true;
    }
  };
  const int threads = options.threads > 0 ? options.threads : sys::AvailableThreads();
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

struct Shard {
  std::string name;
  std::vector<SafetensorsEntry> entries;
  size_t first_tensor = 0;  // number of its first among all
  std::string header;
};

// Tensors in their order, in `count` parts of about the same size, none empty. REQUIRES: 1 <= count <=
// tensors.
std::vector<Shard> Split(const std::vector<ExpectedTensor>& tensors, tensor::DType dtype, int count) {
  int64_t total = 0;
  for (const ExpectedTensor& tensor : tensors) total += tensor.shape.Elements();
  std::vector<Shard> shards(1);
  int64_t before = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto open = static_cast<int64_t>(shards.size());
    const bool full = before >= total / count * open;
    const bool must = tensors.size() - i <= static_cast<size_t>(count - open);
    if (!shards.back().entries.empty() && open < count && (full || must)) {
      shards.emplace_back();
      shards.back().first_tensor = i;
    }
    SafetensorsEntry entry;
    entry.name = tensors[i].name;
    entry.dtype = dtype;
    entry.shape = tensors[i].shape;
    shards.back().entries.push_back(std::move(entry));
    before += tensors[i].shape.Elements();
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].name =
        count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, count);
    shards[i].header = MakeSafetensorsHeader(&shards[i].entries, {{"format", "pt"}});
  }
  return shards;
}

std::string IndexJson(const std::vector<Shard>& shards, int64_t total_bytes) {
  rapidjson::StringBuffer buffer;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  writer.Key("metadata"), writer.StartObject();
  writer.Key("total_size"), writer.Int64(total_bytes), writer.EndObject();
  writer.Key("weight_map"), writer.StartObject();
  for (const Shard& shard : shards) {
    for (const SafetensorsEntry& entry : shard.entries)
      writer.Key(entry.name.c_str()), writer.String(shard.name.c_str());
  }
  writer.EndObject();
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

// Removes what was written, and the folder if it was ours, unless all went well.
class OutputGuard {
 public:
  explicit OutputGuard(std::string folder) : folder_(std::move(folder)), existed_(sys::Exists(folder_)) {
    sys::MakeDirs(folder_);
  }
  ~OutputGuard() {
    if (kept_) return;
    try {
      if (!existed_) {
        sys::RemoveTree(folder_);
        return;
      }
      for (const std::string& name : sys::ListDir(folder_)) sys::RemoveTree(sys::JoinPath(folder_, name));
    } catch (const base::Error&) {
      // The first error is the one to tell.
    }
  }
  OutputGuard(const OutputGuard&) = delete;
  OutputGuard& operator=(const OutputGuard&) = delete;
  void Keep() { kept_ = true; }

 private:
  std::string folder_;
  bool existed_;
  bool kept_ = false;
};

void CheckOptions(const SynthOptions& options, size_t tensors) {
  const std::string& folder = options.folder;
  if (folder.empty()) throw MakeError(ErrorKind::kInvalidArgument, "synth: no output folder; name one");
  if (sys::Exists(folder) && (!sys::IsFolder(folder) || !sys::ListDir(folder).empty())) {
    throw MakeError(ErrorKind::kInvalidArgument, "synth: {}: {}; name a folder that is new or empty", folder,
                    sys::IsFolder(folder) ? "is not empty" : "is not a folder");
  }
  if (options.config.vocab_size < 258) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "synth: vocab_size is {}; 256 bytes, a begin and an end token need at least 258",
                    options.config.vocab_size);
  }
  if (options.shards < 1 || static_cast<size_t>(options.shards) > tensors) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "synth: {} shards; from 1 to {} (the number of tensors) are possible", options.shards,
                    tensors);
  }
  if (options.dtype != tensor::DType::kBf16 && options.dtype != tensor::DType::kF16 &&
      options.dtype != tensor::DType::kF32) {
    throw MakeError(ErrorKind::kInvalidArgument, "synth: dtype {}; use bfloat16, float16 or float32",
                    tensor::Name(options.dtype));
  }
}

void CheckDiskSpace(const std::string& folder, int64_t needed) {
  const uint64_t available = sys::DiskFree(folder);
  if (available >= static_cast<uint64_t>(needed)) return;
  throw MakeError(ErrorKind::kIo, "synth: {}: needs {:.3f} GB, {:.3f} GB are free; free some space", folder,
                  static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
}

}  // namespace

std::vector<std::string_view> SynthShapeNames() {
  std::vector<std::string_view> names;
  for (const NamedShape& shape : NamedShapes()) names.push_back(shape.name);
  return names;
}

ModelConfig SynthShape(const std::string& name_or_path) {
  for (const NamedShape& shape : NamedShapes()) {
    if (shape.name == name_or_path) return shape.config;
  }
  const bool path = name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".json");
  if (path || sys::Exists(name_or_path)) return ReadModelConfig(name_or_path);
  throw MakeError(ErrorKind::kInvalidArgument,
                  "synth: unknown shape \"{}\"; use {} or the path of a config.json", name_or_path,
                  fmt::join(SynthShapeNames(), ", "));
}

SynthResult Synthesize(const SynthOptions& options) {
  const std::vector<ExpectedTensor> tensors = ExpectedTensors(options.config);
  CheckOptions(options, tensors.size());
  ModelConfig config = WithByteLevelTokenIds(options.config);
  config.dtype = options.dtype;
  const int64_t weight_bytes = config.ParameterCount() * static_cast<int64_t>(tensor::Bytes(options.dtype));
  // The tokenizer has about 20 bytes a token.
  constexpr int64_t kOtherBytes = int64_t{8} << 20;
  CheckDiskSpace(options.folder, weight_bytes + kOtherBytes);

  OutputGuard guard(options.folder);
  const auto write = [&](const char* name, const std::string& text) {
    sys::WriteFileAtomic(sys::JoinPath(options.folder, name), text);
  };
  write("config.json", ModelConfigToJson(config));
  write("generation_config.json", SynthGenerationConfigJson(config));
  write("tokenizer.json", SynthTokenizerJson(config));
  write("tokenizer_config.json", SynthTokenizerConfigJson(config));

  const std::vector<Shard> shards = Split(tensors, options.dtype, options.shards);
  if (options.shards > 1) write("model.safetensors.index.json", IndexJson(shards, weight_bytes));
  const Tables tables = MakeTables(options);
  SynthResult result;
  std::vector<std::unique_ptr<sys::SizedFile>> files;
  std::vector<Chunk> chunks;
  for (const Shard& shard : shards) {
    const uint64_t data_bytes = shard.entries.back().end;
    files.push_back(std::make_unique<sys::SizedFile>(sys::JoinPath(options.folder, shard.name),
                                                     shard.header.size() + data_bytes));
    files.back()->WriteAt(0, std::as_bytes(std::span(shard.header.data(), shard.header.size())));
    for (size_t i = 0; i < shard.entries.size(); ++i) {
      const SafetensorsEntry& entry = shard.entries[i];
      for (uint64_t at = entry.begin; at < entry.end; at += kWriteBytes) {
        chunks.push_back({.file = files.back().get(),
                          .offset = shard.header.size() + at,
                          .table = &tables.For(entry.name),
                          .tensor = shard.first_tensor + i,
                          .first_element = (at - entry.begin) / tensor::Bytes(options.dtype),
                          .bytes = std::min(kWriteBytes, static_cast<int64_t>(entry.end - at))});
      }
    }
    result.weight_files.push_back(shard.name);
    result.weight_bytes += static_cast<int64_t>(data_bytes);
  }
  WriteChunks(chunks, options, result.weight_bytes);
  for (const auto& file : files) file->Close();
  guard.Keep();
  return result;
}

}  // namespace preheat::checkpoint
