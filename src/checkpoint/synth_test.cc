#include "checkpoint/synth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::checkpoint {
namespace {

using base::Error;
using base::ErrorKind;
using testing::HasSubstr;

ModelConfig SmallConfig() {
  ModelConfig config;
  config.hidden_size = 96;
  config.intermediate_size = 160;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.vocab_size = 1000;
  config.attention_bias = true;
  config.bos_token_id = 990;
  config.eos_token_ids = {991, 995};
  return config;
}

Error Failure(const SynthOptions& options) {
  try {
    Synthesize(options);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(ErrorKind::kIo, "");
}

TEST(SynthShape, BuiltInShapesHaveTheRealSizes) {
  EXPECT_EQ(SynthShape("llama-3.2-1b").ParameterCount(), 1'235'814'400);
  EXPECT_EQ(SynthShape("llama-3.2-3b").ParameterCount(), 3'212'749'824);
  EXPECT_EQ(SynthShape("llama-3.1-8b").ParameterCount(), 8'030'261'248);
  EXPECT_EQ(SynthShape("llama-3.1-8b").rope.factor, 8.0);
  const std::string data =
      sys::GetEnv("PREHEAT_TEST_DATA").value_or(std::string(PREHEAT_SOURCE_DIR) + "/../shared/data");
  const std::string real = data + "/llama-3.2-3b-instruct/config.json";
  if (!sys::Exists(real)) GTEST_SKIP() << "[SKIP] no llama-3.2-3b-instruct/config.json";
  EXPECT_EQ(ConfigHash(SynthShape("llama-3.2-3b")), ConfigHash(ReadModelConfig(real)));
}

TEST(SynthShape, AnUnknownNameListsTheKnownOnes) {
  try {
    SynthShape("llama-4");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(error.message(), HasSubstr("llama-3.2-1b, llama-3.2-3b, llama-3.1-8b"));
  }
  EXPECT_THROW(SynthShape("/nowhere/config.json"), Error);
}

TEST(Synth, WritesACompleteCheckpointInEveryType) {
  for (const tensor::DType dtype : {tensor::DType::kBf16, tensor::DType::kF16, tensor::DType::kF32}) {
    sys::UniqueTempDir dir;
    const SynthResult result = Synthesize({.config = SmallConfig(), .dtype = dtype, .folder = dir.File("m")});
    const Checkpoint checkpoint = Checkpoint::Open(dir.File("m"));
    checkpoint.CheckComplete();
    EXPECT_EQ(checkpoint.dtype(), dtype);
    EXPECT_EQ(checkpoint.weight_bytes(), result.weight_bytes);
    EXPECT_EQ(ConfigHash(checkpoint.config()), ConfigHash(SmallConfig()));
    EXPECT_THAT(checkpoint.EosTokenIds(), testing::ElementsAre(991, 995));
  }
}

TEST(Synth, ShardsThreadsAndRepetitionChangeNothing) {
  sys::UniqueTempDir dir;
  Synthesize({.config = SmallConfig(), .seed = 5, .folder = dir.File("one"), .threads = 1});
  Synthesize({.config = SmallConfig(), .seed = 5, .shards = 3, .folder = dir.File("three"), .threads = 4});
  Synthesize({.config = SmallConfig(), .seed = 6, .folder = dir.File("other"), .threads = 1});
  const Checkpoint one = Checkpoint::Open(dir.File("one")), three = Checkpoint::Open(dir.File("three"));
  const Checkpoint other = Checkpoint::Open(dir.File("other"));
  three.CheckComplete();
  EXPECT_EQ(three.DataSpans().size(), 3u);
  std::set<std::string> contents;
  for (const ExpectedTensor& tensor : ExpectedTensors(SmallConfig())) {
    const auto a = one.Tensor(tensor.name).bytes(), b = three.Tensor(tensor.name).bytes();
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin(), b.end())) << tensor.name;
    const auto c = other.Tensor(tensor.name).bytes();
    EXPECT_FALSE(std::equal(a.begin(), a.end(), c.begin(), c.end())) << tensor.name;
    EXPECT_TRUE(contents.insert(std::string(reinterpret_cast<const char*>(a.data()), a.size())).second)
        << tensor.name;
  }
}

TEST(Synth, AsManyShardsAsTensorsWorks) {
  sys::UniqueTempDir dir;
  const int tensors = static_cast<int>(ExpectedTensors(SmallConfig()).size());
  const SynthResult result =
      Synthesize({.config = SmallConfig(), .shards = tensors, .folder = dir.File("m")});
  EXPECT_EQ(result.weight_files.size(), static_cast<size_t>(tensors));
  Checkpoint::Open(dir.File("m")).CheckComplete();
  EXPECT_EQ(Failure({.config = SmallConfig(), .shards = tensors + 1, .folder = dir.File("n")}).kind(),
            ErrorKind::kInvalidArgument);
}

struct Moments {
  double mean = 0, deviation = 0;
};

Moments MomentsOf(const tensor::TensorView& view) {
  Moments moments;
  double squares = 0;
  for (int64_t i = 0; i < view.Elements(); ++i) {
    moments.mean += view.At(i);
    squares += double{view.At(i)} * view.At(i);
  }
  moments.mean /= static_cast<double>(view.Elements());
  moments.deviation = std::sqrt(squares / static_cast<double>(view.Elements()) - moments.mean * moments.mean);
  return moments;
}

TEST(Synth, WeightsHaveTheStatedSpread) {
  sys::UniqueTempDir dir;
  Synthesize({.config = SmallConfig(), .folder = dir.File("m")});
  const Checkpoint checkpoint = Checkpoint::Open(dir.File("m"));
  const Moments embedding = MomentsOf(checkpoint.Tensor("model.embed_tokens.weight"));  // 96,000 values
  EXPECT_NEAR(embedding.mean, 0, 0.0003);                                               // 4.6 sigma
  EXPECT_NEAR(embedding.deviation, 0.02, 0.0004);
  const Moments down = MomentsOf(checkpoint.Tensor("model.layers.1.mlp.down_proj.weight"));
  EXPECT_NEAR(down.deviation, 0.02 / std::sqrt(6.0), 0.0005);
  const Moments norm = MomentsOf(checkpoint.Tensor("model.norm.weight"));
  EXPECT_NEAR(norm.mean, 1, 0.06);
  EXPECT_GT(norm.deviation, 0.05);
}

TEST(Synth, TheTokenizerCoversEveryByteAndEveryId) {
  sys::UniqueTempDir dir;
  Synthesize({.config = SmallConfig(), .folder = dir.File("m")});
  rapidjson::Document tokenizer;
  tokenizer.Parse(sys::ReadFile(dir.File("m/tokenizer.json")).c_str());
  ASSERT_FALSE(tokenizer.HasParseError());
  const auto& vocab = tokenizer["model"]["vocab"];
  EXPECT_EQ(vocab.MemberCount(), 1000u);
  EXPECT_EQ(vocab["A"].GetInt(), 65);
  EXPECT_EQ(vocab["\u0120"].GetInt(), 32);
  EXPECT_EQ(vocab["\u010a"].GetInt(), 10);
  EXPECT_EQ(vocab["\u00ff"].GetInt(), 255);
  EXPECT_EQ(vocab["\u0143"].GetInt(), 173);  // the last of those that have no print of their own
  EXPECT_EQ(vocab["<|begin_of_text|>"].GetInt(), 990);
  std::set<int> ids;
  for (const auto& member : vocab.GetObject()) ids.insert(member.value.GetInt());
  EXPECT_EQ(ids.size(), 1000u);
  EXPECT_EQ(*ids.rbegin(), 999);
  EXPECT_EQ(tokenizer["added_tokens"].Size(), 3u);
  EXPECT_EQ(tokenizer["model"]["merges"].Size(), 0u);
}

TEST(Synth, TokenIdsThatABytelevelVocabularyCannotHaveAreMoved) {
  sys::UniqueTempDir dir;
  ModelConfig config = SmallConfig();
  config.vocab_size = 258;
  config.bos_token_id = 0;
  config.eos_token_ids = {1};
  config.pad_token_id = 2;
  Synthesize({.config = config, .folder = dir.File("m")});
  const Checkpoint checkpoint = Checkpoint::Open(dir.File("m"));
  EXPECT_EQ(checkpoint.config().bos_token_id, 256);
  EXPECT_THAT(checkpoint.EosTokenIds(), testing::ElementsAre(257));
  EXPECT_FALSE(checkpoint.config().pad_token_id.has_value());
}

TEST(Synth, DoesNotTouchAFolderThatIsNotEmpty) {
  sys::UniqueTempDir dir;
  sys::WriteFileAtomic(dir.File("mine"), std::string_view("x"));
  const Error error = Failure({.config = SmallConfig(), .folder = dir.path()});
  EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.message(), HasSubstr("not empty"));
  EXPECT_THAT(sys::ListDir(dir.path()), testing::ElementsAre("mine"));
  EXPECT_THAT(Failure({.config = SmallConfig(), .folder = dir.File("mine")}).message(),
              HasSubstr("not a folder"));
}

TEST(Synth, AVocabularyWithoutRoomForTheBytesIsRefused) {
  sys::UniqueTempDir dir;
  ModelConfig config = SmallConfig();
  config.vocab_size = 257;
  EXPECT_EQ(Failure({.config = config, .folder = dir.File("m")}).kind(), ErrorKind::kInvalidArgument);
  EXPECT_FALSE(sys::Exists(dir.File("m")));
}

TEST(Synth, ADiskThatIsTooSmallIsToldBefore) {
  sys::UniqueTempDir dir;
  ModelConfig config = SynthShape("llama-3.1-8b");
  config.num_hidden_layers = 16000;  // 7 TB
  const Error error = Failure({.config = config, .folder = dir.File("m")});
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_THAT(error.message(), HasSubstr("GB are free"));
  EXPECT_FALSE(sys::Exists(dir.File("m")));
}

TEST(Synth, StoppedItLeavesNothing) {
  const std::atomic<bool> cancel{true};
  sys::UniqueTempDir dir;
  EXPECT_EQ(Failure({.config = SmallConfig(), .folder = dir.File("m"), .cancel = &cancel}).kind(),
            ErrorKind::kInterrupted);
  EXPECT_FALSE(sys::Exists(dir.File("m")));
  sys::MakeDirs(dir.File("empty"));
  Failure({.config = SmallConfig(), .folder = dir.File("empty"), .cancel = &cancel});
  EXPECT_TRUE(sys::ListDir(dir.File("empty")).empty());
}

}  // namespace
}  // namespace preheat::checkpoint
