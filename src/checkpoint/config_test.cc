#include "checkpoint/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cmath>
#include <random>

#include "base/damage_for_test.h"
#include "base/error.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/rope.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::checkpoint {
namespace {

using base::Error;
using base::ErrorKind;
using testing::ElementsAre;
using testing::HasSubstr;

const char* const kBase = R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
  "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300})";

// kBase with `json` (e.g. R"("head_dim": 32)") added; a field that stands in both is replaced.
std::string With(const std::string& json) {
  rapidjson::Document base, extra;
  base.Parse(kBase);
  extra.Parse(("{" + json + "}").c_str());
  EXPECT_FALSE(extra.HasParseError()) << json;
  // < and no range: clang finds two ways to compare these iterators with !=.
  const auto end = extra.MemberEnd();
  for (auto member = extra.MemberBegin(); member < end; ++member) base.RemoveMember(member->name);
  for (auto member = extra.MemberBegin(); member < end; ++member) {
    base.AddMember(member->name, member->value, base.GetAllocator());
  }
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  base.Accept(writer);
  return buffer.GetString();
}

std::string Without(const char* name) {
  rapidjson::Document base;
  base.Parse(kBase);
  base.RemoveMember(name);
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  base.Accept(writer);
  return buffer.GetString();
}

Error Failure(const std::string& json) {
  try {
    ParseModelConfig(json, "dir/config.json");
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "accepted: " << json;
  return Error(ErrorKind::kIo, "");
}

void ExpectFailure(const std::string& json, ErrorKind kind, const std::string& field,
                   const std::string& value) {
  const Error error = Failure(json);
  EXPECT_EQ(error.kind(), kind) << error.message();
  EXPECT_THAT(error.message(),
              testing::AllOf(HasSubstr("dir/config.json"), HasSubstr(field), HasSubstr(value)));
}

TEST(ModelConfig, DefaultsAreThoseOfTransformers) {
  const ModelConfig config = ParseModelConfig(kBase, "config.json");
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.kind, RopeKind::kDefault);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_FALSE(config.dtype.has_value());
}

TEST(ModelConfig, BothSpellingsOfTransformersAreTheSame) {
  const ModelConfig v4 = ParseModelConfig(
      With(
          R"("torch_dtype": "bfloat16", "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"),
      "config.json");
  const ModelConfig v5 = ParseModelConfig(
      With(
          R"("dtype": "bfloat16", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"),
      "config.json");
  const ModelConfig old = ParseModelConfig(
      With(
          R"("torch_dtype": "torch.bfloat16", "rope_theta": 500000, "rope_scaling": {"type": "llama3", "factor": 32,
      "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192})"),
      "config.json");
  EXPECT_EQ(v4, v5);
  EXPECT_EQ(v4, old);
  EXPECT_EQ(v4.rope.factor, 32.0);
  EXPECT_EQ(v4.dtype, tensor::DType::kBf16);
}

TEST(ModelConfig, NullIsAbsent) {
  const ModelConfig config = ParseModelConfig(
      With(
          R"("head_dim": null, "num_key_value_heads": null, "rope_scaling": null, "quantization_config": null,
      "sliding_window": null, "eos_token_id": null, "pad_token_id": -1)"),
      "config.json");
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_TRUE(config.eos_token_ids.empty());
  EXPECT_FALSE(config.pad_token_id.has_value());
}

TEST(ModelConfig, EosIsANumberOrAList) {
  EXPECT_THAT(ParseModelConfig(With(R"("eos_token_id": 7)"), "c").eos_token_ids, ElementsAre(7));
  EXPECT_THAT(ParseModelConfig(With(R"("eos_token_id": [7, 9])"), "c").eos_token_ids, ElementsAre(7, 9));
}

TEST(ModelConfig, ReadsTheRealLlama) {
  const std::string data =
      sys::GetEnv("PREHEAT_TEST_DATA").value_or(std::string(PREHEAT_SOURCE_DIR) + "/../shared/data");
  const std::string path = data + "/llama-3.2-3b-instruct/config.json";
  if (!sys::Exists(path)) GTEST_SKIP() << "[SKIP] no llama-3.2-3b-instruct/config.json";
  const ModelConfig config = ReadModelConfig(path);
  EXPECT_EQ(config.ParameterCount(), 3'212'749'824);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST(ModelConfig, NeededFieldsAreNamedWhenMissing) {
  for (const char* name : {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
                           "num_attention_heads", "vocab_size"}) {
    ExpectFailure(Without(name), ErrorKind::kCorrupt, fmt::format("\"{}\"", name), "missing");
  }
}

TEST(ModelConfig, AbsurdSizesAreCorrupt) {
  for (const char* name : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                           "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"}) {
    for (const char* value :
         {"-1", "0", "1000000000000", "18446744073709551615", "1e12", "2.5", "\"64\"", "true", "[1]", "{}"}) {
      const Error error = Failure(With(fmt::format("\"{}\": {}", name, value)));
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
      EXPECT_THAT(error.message(), HasSubstr(fmt::format("\"{}\"", name)));
    }
  }
  ExpectFailure(With(R"("hidden_size": -3)"), ErrorKind::kCorrupt, "hidden_size", "-3");
}

TEST(ModelConfig, HeadsMustFit) {
  ExpectFailure(With(R"("num_key_value_heads": 3)"), ErrorKind::kCorrupt, "num_key_value_heads", "3");
  ExpectFailure(With(R"("head_dim": 15)"), ErrorKind::kCorrupt, "head_dim", "15");
  ExpectFailure(With(R"("num_attention_heads": 5)"), ErrorKind::kCorrupt, "hidden_size", "64");
  ExpectFailure(With(R"("num_attention_heads": 65536, "head_dim": 16384)"), ErrorKind::kCorrupt, "head_dim",
                "16384");
  // A head_dim of its own frees hidden_size from the heads.
  EXPECT_EQ(
      ParseModelConfig(With(R"("num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 64)"), "c")
          .q_size(),
      1536);
}

TEST(ModelConfig, WhatIsNotSupportedIsNamedWithItsValue) {
  const auto unsupported = [](const std::string& json, const std::string& field, const std::string& value) {
    ExpectFailure(With(json), ErrorKind::kUnsupported, field, value);
  };
  unsupported(R"("model_type": "mistral")", "model_type", "mistral");
  unsupported(R"("architectures": ["LlamaForSequenceClassification"])", "architectures",
              "LlamaForSequenceClassification");
  unsupported(R"("quantization_config": {"quant_method": "gptq"})", "quantization_config", "object");
  unsupported(R"("sliding_window": 4096)", "sliding_window", "4096");
  unsupported(R"("layer_types": ["full_attention", "sliding_attention"])", "layer_types", "list of 2");
  unsupported(R"("hidden_act": "gelu")", "hidden_act", "gelu");
  unsupported(R"("partial_rotary_factor": 0.5)", "partial_rotary_factor", "0.5");
  unsupported(R"("rope_scaling": {"type": "linear", "factor": 2.0})", "rope_scaling.type", "linear");
  unsupported(R"("rope_parameters": {"rope_type": "yarn", "factor": 2.0})", "rope_parameters.rope_type",
              "yarn");
  unsupported(R"("rope_parameters": {"full_attention": {"rope_type": "default"}})", "full_attention",
              "object");
  unsupported(R"("torch_dtype": "float8_e4m3fn")", "torch_dtype", "float8_e4m3fn");
}

TEST(ModelConfig, ASlidingWindowThatIsOffIsFine) {
  EXPECT_NO_THROW(ParseModelConfig(With(R"("sliding_window": 4096, "use_sliding_window": false)"), "c"));
}

TEST(ModelConfig, RopeNeedsItsFactors) {
  const std::string rest =
      R"("rope_scaling": {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0)";
  ExpectFailure(With(rest + R"(, "original_max_position_embeddings": 10})"), ErrorKind::kCorrupt,
                "rope_scaling.factor", "missing");
  ExpectFailure(With(rest + R"(, "factor": 8.0})"), ErrorKind::kCorrupt,
                "rope_scaling.original_max_position_embeddings", "missing");
  ExpectFailure(With(rest + R"(, "factor": 0, "original_max_position_embeddings": 10})"), ErrorKind::kCorrupt,
                "rope_scaling.factor", "0");
  ExpectFailure(With(R"("rope_theta": -1.0)"), ErrorKind::kCorrupt, "rope_theta", "-1");
  ExpectFailure(With(R"("rope_scaling": "llama3")"), ErrorKind::kCorrupt, "rope_scaling", "llama3");
  ExpectFailure(With(R"("rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 10})"),
                ErrorKind::kCorrupt, "rope_scaling.high_freq_factor", "4");
}

TEST(ModelConfig, MalformedFilesAreCorrupt) {
  for (const std::string& text : {std::string(), std::string("{"), std::string("[1]"), std::string("null"),
                                  std::string("{}x"), std::string("{\"a\": 1}\0garbage", 16),
                                  std::string(100'000, '['), std::string("{\"a\": \"\xff\"}")}) {
    EXPECT_EQ(Failure(text).kind(), ErrorKind::kCorrupt);
  }
  ExpectFailure(With(R"("tie_word_embeddings": 1)"), ErrorKind::kCorrupt, "tie_word_embeddings", "1");
  ExpectFailure(With(R"("eos_token_id": [1, "x"])"), ErrorKind::kCorrupt, "eos_token_id", "\"x\"");
  ExpectFailure(With(R"("bos_token_id": 300)"), ErrorKind::kCorrupt, "bos_token_id", "300");
  ExpectFailure(With(R"("rms_norm_eps": -1)"), ErrorKind::kCorrupt, "rms_norm_eps", "-1");
}

TEST(ModelConfig, AMissingFileIsNotFound) {
  try {
    ReadModelConfig("/nowhere/config.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  }
}

TEST(ModelConfig, WrittenAndReadItIsTheSame) {
  ModelConfig config = ParseModelConfig(
      With(R"("torch_dtype": "float16", "rope_theta": 500000.0, "attention_bias": true, "mlp_bias": true,
      "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 4, "head_dim": 32,
      "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192}, "rms_norm_eps": 1e-05)"),
      "c");
  EXPECT_EQ(ParseModelConfig(ModelConfigToJson(config), "c"), config);
  config.eos_token_ids = {2};
  config.rope = {};
  EXPECT_EQ(ParseModelConfig(ModelConfigToJson(config), "c"), config);
}

TEST(ModelConfig, GoldenConfigsSurviveARoundTrip) {
  for (const std::string& name : sys::ListDir(std::string(PREHEAT_TESTDATA) + "/golden")) {
    const std::string path = fmt::format("{}/golden/{}/config.json", PREHEAT_TESTDATA, name);
    if (!sys::Exists(path)) continue;
    const ModelConfig config = ReadModelConfig(path);
    EXPECT_EQ(ParseModelConfig(ModelConfigToJson(config), "c"), config) << name;
  }
}

TEST(ConfigHash, ChangesWithWhatCompilingDependsOnOnly) {
  const ModelConfig config = ParseModelConfig(kBase, "c");
  const std::string hash = ConfigHash(config);
  EXPECT_EQ(hash.size(), 64u);
  for (const char* change :
       {"\"intermediate_size\": 129", "\"num_key_value_heads\": 2", "\"rms_norm_eps\": 1e-5",
        "\"rope_theta\": 10001.0", "\"tie_word_embeddings\": true", "\"attention_bias\": true",
        "\"mlp_bias\": true", "\"vocab_size\": 301", "\"head_dim\": 32"}) {
    EXPECT_NE(ConfigHash(ParseModelConfig(With(change), "c")), hash) << change;
  }
  for (const char* same :
       {"\"torch_dtype\": \"bfloat16\"", "\"eos_token_id\": 5", "\"max_position_embeddings\": 4096",
        "\"head_dim\": 16", "\"transformers_version\": \"x\""}) {
    EXPECT_EQ(ConfigHash(ParseModelConfig(With(same), "c")), hash) << same;
  }
}

// A key that changes by accident makes every artifact miss.
TEST(ConfigHash, TextIsStable) {
  EXPECT_EQ(
      ConfigHashText(ParseModelConfig(kBase, "c")),
      "model=llama\nhidden_size=64\nintermediate_size=128\nnum_hidden_layers=2\nnum_attention_heads=4\n"
      "num_key_value_heads=4\nhead_dim=16\nvocab_size=300\nrms_norm_eps=1e-06\ntie_word_embeddings=false\n"
      "attention_bias=false\nmlp_bias=false\nrope_theta=10000\nrope_type=default\n");
}

// fp32 powers differ between C libraries in the last bit; the reference's vector routine promises 1 ulp.
TEST(Rope, InverseFrequenciesAreTransformers) {
  int cases = 0, values = 0, exact = 0;
  for (const std::string& name : sys::ListDir(std::string(PREHEAT_TESTDATA) + "/golden")) {
    const std::string golden_path = fmt::format("{}/golden/{}/golden.json", PREHEAT_TESTDATA, name);
    if (!sys::Exists(golden_path)) continue;
    std::string config_path = fmt::format("{}/golden/{}/config.json", PREHEAT_TESTDATA, name);
    if (!sys::Exists(config_path))
      config_path = fmt::format("{}/models/{}/config.json", PREHEAT_SOURCE_DIR, name);
    const ModelConfig config = ReadModelConfig(config_path);
    const std::vector<float> inv_freq = InvFreq(config);
    rapidjson::Document golden;
    golden.Parse(sys::ReadFile(golden_path).c_str());
    const auto& expected = golden["inv_freq"];
    ASSERT_EQ(inv_freq.size(), expected.Size()) << name;
    for (unsigned i = 0; i < expected.Size(); ++i) {
      const auto want = static_cast<float>(expected[i].GetDouble());
      EXPECT_NEAR(inv_freq[i], want, 3e-7 * want) << name << " " << i;
      exact += inv_freq[i] == want ? 1 : 0;
      ++values;
    }
    EXPECT_EQ(RopeAttentionScaling(config), golden["rope_attention_scaling"].GetDouble());
    ++cases;
  }
  EXPECT_EQ(cases, 8);
  RecordProperty("values", values);
  EXPECT_EQ(exact, values) << "of " << values << " are bit for bit the same";
}

TEST(GenerationConfig, ReadsWhatItHolds) {
  const GenerationConfig config = ParseGenerationConfig(
      R"({"eos_token_id": [1, 2], "do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 20})", "g");
  EXPECT_THAT(config.eos_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.temperature, 0.6);
  EXPECT_EQ(config.top_k, 20);
  EXPECT_EQ(config.top_p, 0.9);
  EXPECT_FALSE(ParseGenerationConfig("{}", "g").temperature.has_value());
}

TEST(GenerationConfig, AMissingFileIsAMissAndABadOneAnError) {
  EXPECT_FALSE(ReadGenerationConfig("/nowhere/generation_config.json").has_value());
  for (const char* text :
       {"{\"top_p\": 2}", "{\"temperature\": -1}", "{\"top_k\": \"x\"}", "[]", "{\"do_sample\": 1}"}) {
    EXPECT_THROW(ParseGenerationConfig(text, "g"), Error) << text;
  }
}

// Bytes of a real config changed, cut and doubled at random: an Error or a config, never a crash.
TEST(ModelConfig, SurvivesDamage) {
  const std::string whole = ModelConfigToJson(ParseModelConfig(kBase, "c"));
  const uint32_t seed = std::random_device{}();
  RecordProperty("seed", static_cast<int>(seed));
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = base::Damaged(whole, "0123456789-{}[],:\"eE", random);
    try {
      InvFreq(ParseModelConfig(text, "c"));
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::kCorrupt || error.kind() == ErrorKind::kUnsupported);
    }
  }
}

}  // namespace
}  // namespace preheat::checkpoint
