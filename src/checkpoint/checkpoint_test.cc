#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_for_test.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::checkpoint {
namespace {

using base::Error;
using base::ErrorKind;
using base::Thrown;
using testing::AllOf;
using testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 4;
  config.vocab_size = 10;
  return config;
}

// A folder with a checkpoint whose tensors a test may change before it is written.
class Folder {
 public:
  explicit Folder(ModelConfig config = SmallConfig()) : config_(std::move(config)) {
    for (const ExpectedTensor& tensor : ExpectedTensors(config_)) Add(tensor.name, tensor.shape);
  }

  void Add(const std::string& name, tensor::Shape shape, tensor::DType dtype = tensor::DType::kBf16) {
    SafetensorsEntry entry;
    entry.name = name;
    entry.dtype = dtype;
    entry.shape = std::move(shape);
    entries_.push_back(std::move(entry));
  }
  void Remove(const std::string& name) {
    std::erase_if(entries_, [&](const SafetensorsEntry& entry) { return entry.name == name; });
  }

  void WriteFile(const std::string& name, std::vector<SafetensorsEntry> entries) {
    std::string file = MakeSafetensorsHeader(&entries);
    file.resize(file.size() + (entries.empty() ? 0 : entries.back().end), '\1');
    sys::WriteFileAtomic(dir_.File(name), file);
  }
  const std::string& Write() {
    sys::WriteFileAtomic(dir_.File("config.json"), ModelConfigToJson(config_));
    WriteFile("model.safetensors", entries_);
    return dir_.path();
  }
  // The first `first` tensors in one shard, the others in another.
  const std::string& WriteShards(size_t first) {
    sys::WriteFileAtomic(dir_.File("config.json"), ModelConfigToJson(config_));
    const auto middle = entries_.begin() + static_cast<ptrdiff_t>(first);
    WriteFile("s1.safetensors", {entries_.begin(), middle});
    WriteFile("s2.safetensors", {middle, entries_.end()});
    std::string map;
    for (size_t i = 0; i < entries_.size(); ++i) {
      map += fmt::format("{}\"{}\":\"{}\"", i == 0 ? "" : ",", entries_[i].name,
                         i < first ? "s1.safetensors" : "s2.safetensors");
    }
    WriteIndex("{\"metadata\":{},\"weight_map\":{" + map + "}}");
    return dir_.path();
  }
  void WriteIndex(const std::string& json) {
    sys::WriteFileAtomic(dir_.File("model.safetensors.index.json"), json);
  }

  const std::string& path() const { return dir_.path(); }
  std::string File(const std::string& name) const { return dir_.File(name); }

 private:
  ModelConfig config_;
  sys::UniqueTempDir dir_;
  std::vector<SafetensorsEntry> entries_;
};

TEST(ExpectedTensors, AddUpToTheParameterCount) {
  for (const bool bias : {false, true}) {
    for (const bool tied : {false, true}) {
      ModelConfig config = SmallConfig();
      config.attention_bias = config.mlp_bias = bias;
      config.tie_word_embeddings = tied;
      int64_t elements = 0;
      for (const ExpectedTensor& tensor : ExpectedTensors(config)) elements += tensor.shape.Elements();
      EXPECT_EQ(elements, config.ParameterCount());
    }
  }
}

TEST(Checkpoint, OpensAllGoldenCases) {
  int cases = 0;
  for (const std::string& name : sys::ListDir(std::string(PREHEAT_TESTDATA) + "/golden")) {
    const std::string folder = fmt::format("{}/golden/{}", PREHEAT_TESTDATA, name);
    if (!sys::Exists(folder + "/config.json")) continue;
    const Checkpoint checkpoint = Checkpoint::Open(folder);
    EXPECT_NO_THROW(checkpoint.CheckComplete()) << name;
    EXPECT_EQ(checkpoint.dtype(), checkpoint.config().dtype) << name;
    const ModelConfig& config = checkpoint.config();
    const tensor::TensorView head =
        checkpoint.Tensor(checkpoint.HeadName(), {config.vocab_size, config.hidden_size});
    EXPECT_NE(head.At(0), 0.0f);
    ++cases;
  }
  EXPECT_EQ(cases, 7);
}

TEST(Checkpoint, OpensTheEmbeddedModel) {
  const Checkpoint checkpoint = Checkpoint::Open(std::string(PREHEAT_SOURCE_DIR) + "/models/tiny-instruct");
  checkpoint.CheckComplete();
  EXPECT_EQ(checkpoint.HeadName(), "model.embed_tokens.weight");
  EXPECT_FALSE(checkpoint.EosTokenIds().empty());
  EXPECT_EQ(checkpoint.weight_bytes(), 2 * checkpoint.config().ParameterCount());
  const double resident = checkpoint.ResidentFraction();
  EXPECT_GE(resident, 0);
  EXPECT_LE(resident, 1);
}

TEST(Checkpoint, ViewsOutliveAMove) {
  Folder folder;
  Checkpoint first = Checkpoint::Open(folder.Write());
  const tensor::TensorView view = first.Tensor("model.norm.weight", {8});
  const Checkpoint second = std::move(first);
  EXPECT_EQ(second.Tensor("model.norm.weight").data(), view.data());
  EXPECT_EQ(view.At(7), second.Tensor("model.norm.weight").At(7));
}

TEST(Checkpoint, ShardsAreOneModel) {
  Folder folder;
  const Checkpoint checkpoint = Checkpoint::Open(folder.WriteShards(5));
  checkpoint.CheckComplete();
  EXPECT_EQ(checkpoint.DataSpans().size(), 2u);
  EXPECT_EQ(checkpoint.weight_bytes(), 2 * checkpoint.config().ParameterCount());
}

TEST(Checkpoint, FilesMayBeLinks) {
  Folder folder;
  folder.Write();
  sys::UniqueTempDir links;
  for (const char* name : {"config.json", "model.safetensors"}) {
    ASSERT_EQ(::symlink(folder.File(name).c_str(), links.File(name).c_str()), 0);
  }
  EXPECT_NO_THROW(Checkpoint::Open(links.path()).CheckComplete());
}

TEST(Checkpoint, ATiedHeadIsTheEmbedding) {
  ModelConfig config = SmallConfig();
  config.tie_word_embeddings = true;
  Folder folder(config);
  folder.Add("lm_head.weight", {10, 8});  // there all the same: harmless
  folder.Add("model.layers.0.self_attn.rotary_emb.inv_freq", {2}, tensor::DType::kF32);
  const Checkpoint checkpoint = Checkpoint::Open(folder.Write());
  EXPECT_EQ(checkpoint.HeadName(), "model.embed_tokens.weight");
  EXPECT_NO_THROW(checkpoint.CheckComplete());
}

TEST(Checkpoint, AMissingFolderOrFileIsNotFound) {
  EXPECT_EQ(Thrown([] { Checkpoint::Open("/nowhere/model"); }).kind(), ErrorKind::kNotFound);
  sys::UniqueTempDir dir;
  const Error no_config = Thrown([&] { Checkpoint::Open(dir.path()); });
  EXPECT_EQ(no_config.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(no_config.message(), HasSubstr("config.json"));
  sys::WriteFileAtomic(dir.File("config.json"), ModelConfigToJson(SmallConfig()));
  const Error no_weights = Thrown([&] { Checkpoint::Open(dir.path()); });
  EXPECT_EQ(no_weights.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(no_weights.message(), HasSubstr("model.safetensors"));
  sys::WriteFileAtomic(dir.File("pytorch_model.bin"), std::string_view("x"));
  EXPECT_EQ(Thrown([&] { Checkpoint::Open(dir.path()); }).kind(), ErrorKind::kUnsupported);
}

TEST(Checkpoint, AMissingTensorIsNotFoundByName) {
  Folder folder;
  folder.Remove("model.layers.1.mlp.up_proj.weight");
  const Checkpoint checkpoint = Checkpoint::Open(folder.Write());
  const Error error = Thrown([&] { checkpoint.CheckComplete(); });
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("model.layers.1.mlp.up_proj.weight"));
}

TEST(Checkpoint, AnUntiedModelNeedsItsHead) {
  Folder folder;
  folder.Remove("lm_head.weight");
  const Error error = Thrown([&] { Checkpoint::Open(folder.Write()).CheckComplete(); });
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("lm_head.weight"));
}

TEST(Checkpoint, AWrongShapeNamesBoth) {
  Folder folder;
  folder.Remove("model.norm.weight");
  folder.Add("model.norm.weight", {9});
  const Error error = Thrown([&] { Checkpoint::Open(folder.Write()).CheckComplete(); });
  EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("[9]"), HasSubstr("[8]")));
}

TEST(Checkpoint, AnotherDtypeNamesBoth) {
  Folder folder;
  folder.Remove("model.norm.weight");
  folder.Add("model.norm.weight", {8}, tensor::DType::kF32);
  const Error error = Thrown([&] { Checkpoint::Open(folder.Write()).CheckComplete(); });
  EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("F32"), HasSubstr("BF16")));
}

TEST(Checkpoint, WeightsOfATypeThatIsNoFloatAreUnsupported) {
  Folder folder;
  folder.Remove("model.embed_tokens.weight");
  folder.Add("model.embed_tokens.weight", {10, 8}, tensor::DType::kU8);
  EXPECT_EQ(Thrown([&] { Checkpoint::Open(folder.Write()).CheckComplete(); }).kind(),
            ErrorKind::kUnsupported);
}

TEST(Checkpoint, ASurplusTensorIsAnErrorAndFaultsAreCounted) {
  Folder folder;
  folder.Add("model.layers.2.input_layernorm.weight", {8});
  folder.Add("model.layers.0.self_attn.q_proj.weight_scale", {1});
  const Error error = Thrown([&] { Checkpoint::Open(folder.Write()).CheckComplete(); });
  EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("q_proj.weight_scale"), HasSubstr("and 1 more")));
}

TEST(Checkpoint, AShardThatIsNotThereIsNamed) {
  Folder folder;
  folder.WriteShards(5);
  sys::RemoveFile(folder.File("s2.safetensors"));
  const Error error = Thrown([&] { Checkpoint::Open(folder.path()); });
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("s2.safetensors"));
}

TEST(Checkpoint, AnIndexThatDisagreesIsCorrupt) {
  Folder folder;
  folder.WriteShards(5);
  folder.WriteIndex(
      R"({"weight_map":{"model.embed_tokens.weight":"s2.safetensors","model.norm.weight":"s1.safetensors"}})");
  EXPECT_EQ(Thrown([&] { Checkpoint::Open(folder.path()); }).kind(), ErrorKind::kCorrupt);
}

TEST(Checkpoint, NoPathLeavesTheFolder) {
  Folder folder;
  folder.WriteShards(5);
  for (const char* path : {"../s1.safetensors", "/etc/passwd", "a/../../b", "", ".."}) {
    folder.WriteIndex(fmt::format("{{\"weight_map\":{{\"a\":\"{}\"}}}}", path));
    const Error error = Thrown([&] { Checkpoint::Open(folder.path()); });
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt) << path;
    EXPECT_THAT(error.message(), HasSubstr("outside"));
  }
}

TEST(Checkpoint, AMalformedIndexIsCorrupt) {
  Folder folder;
  folder.WriteShards(5);
  for (const char* json :
       {"{}", "[]", "{\"weight_map\":[]}", "{\"weight_map\":{}}", "{\"weight_map\":{\"a\":1}}", "{\"w"}) {
    folder.WriteIndex(json);
    EXPECT_EQ(Thrown([&] { Checkpoint::Open(folder.path()); }).kind(), ErrorKind::kCorrupt) << json;
  }
}

TEST(Checkpoint, ATensorInTwoShardsIsCorrupt) {
  Folder folder;
  folder.WriteShards(5);
  SafetensorsEntry entry;
  entry.name = "model.embed_tokens.weight";
  entry.dtype = tensor::DType::kBf16;
  entry.shape = {10, 8};
  folder.WriteFile("s2.safetensors", {entry});
  EXPECT_EQ(Thrown([&] { Checkpoint::Open(folder.path()); }).kind(), ErrorKind::kCorrupt);
}

TEST(Checkpoint, GenerationConfigsEndTokensComeFirst) {
  ModelConfig config = SmallConfig();
  config.eos_token_ids = {3};
  Folder folder(config);
  EXPECT_THAT(Checkpoint::Open(folder.Write()).EosTokenIds(), testing::ElementsAre(3));
  sys::WriteFileAtomic(folder.File("generation_config.json"), std::string_view("{\"eos_token_id\": [4, 5]}"));
  EXPECT_THAT(Checkpoint::Open(folder.path()).EosTokenIds(), testing::ElementsAre(4, 5));
}

}  // namespace
}  // namespace preheat::checkpoint
