// A model folder that is not what it should be: message and exit code.
#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

class BadModel : public EndToEnd {
 protected:
  sys::SpawnResult Build(const std::string& model) const {
    return Preheat({"build", "--model-id", model, "--compile-mode", "default", "--prefill-lengths", "32",
                    "--cache-path", File("x.bin"), "--metadata-path", File("x.json")},
                   WarmCache());
  }
  // The outcome with one place of config.json changed.
  void ExpectConfigError(const std::string& from, const std::string& to, int exit_code,
                         const Words& texts) const {
    const std::string model = CopyOfTiny();
    Edit(model + "/config.json", from, to);
    ExpectError(Build(model), exit_code, texts);
    EXPECT_FALSE(sys::Exists(File("x.bin")));
    sys::RemoveTree(model);
  }
};

TEST_F(BadModel, MissingFolder) {
  const std::string missing = "/no/such/model";
  const Words texts = {"/no/such/model: no such folder; name a folder with config.json and safetensors"};
  ExpectError(Build(missing), 66, texts);
  ExpectError(Preheat(OnTiny("run", {"--model-id", missing})), 66, texts);
  ExpectError(PreheatRun(OnTiny("", {"--model-id", missing})), 66, texts);
  ExpectError(Preheat({"tokenize", "--model-id", missing}), 66, texts);
  ExpectError(Preheat({"verify", Tiny().artifact, "--model-id", missing}), 66, texts);
  ExpectError(Preheat({"logits", "--model-id", missing, "--prompt", "x", "--output", File("l")}), 66, texts);
}

TEST_F(BadModel, AShapeToSynthesizeThatIsNone) {
  ExpectError(Preheat({"synth", "--shape", File("none.json"), "--output", File("s")}), 66,
              {File("none.json") + ": No such file or directory"});
  sys::WriteFileAtomic(File("shape.json"), std::string_view("{\"hidden_size\": 64}"));
  ExpectError(Preheat({"synth", "--shape", File("shape.json"), "--output", File("s")}), 65,
              {"shape.json: field \"model_type\" is missing"});
  ExpectError(
      Preheat({"synth", "--shape", TinyModel() + "/config.json", "--shards", "1000", "--output", File("s")}),
      2, {"1000 shards; from 1 to "});
  EXPECT_FALSE(sys::Exists(File("s")));
}

TEST_F(BadModel, AnIdThatIsNotInTheHubCache) {
  const auto result = Preheat({"run", "--model-id", "someone/no-such-model"}, {{"HF_HOME", File("hub")}});
  ExpectError(result, 66, {"someone/no-such-model", "hf download"});
}

TEST_F(BadModel, FolderWithoutConfig) {
  sys::MakeDirs(File("empty"));
  ExpectError(Build(File("empty")), 66, {"has no config.json"});
}

TEST_F(BadModel, FolderWithoutWeights) {
  const std::string model = CopyOfTiny();
  sys::RemoveFile(model + "/model.safetensors");
  ExpectError(Build(model), 66, {"has neither model.safetensors nor model.safetensors.index.json"});
}

TEST_F(BadModel, ConfigFields) {
  const std::string hidden = "\"hidden_size\": 256";
  ExpectConfigError(hidden + ",", "", 65, {"config.json: field \"hidden_size\" is missing"});
  ExpectConfigError(hidden, "\"hidden_size\": -256", 65, {"field \"hidden_size\" is -256"});
  ExpectConfigError(hidden, "\"hidden_size\": 1000000000000", 65, {"field \"hidden_size\" is 1000000000000"});
  ExpectConfigError(hidden, "\"hidden_size\": \"large\"", 65, {"field \"hidden_size\" is \"large\""});
  ExpectConfigError(hidden, "\"hidden_size\": 0", 65, {"field \"hidden_size\""});
  ExpectConfigError("\"vocab_size\": 2048", "\"vocab_size\": [1]", 65, {"field \"vocab_size\""});
  ExpectConfigError("{", "oh, ", 65, {"config.json: not valid JSON"});
}

TEST_F(BadModel, SizesThatNoModelHas) {
  const std::string config = sys::ReadFile(TinyModel() + "/config.json");
  for (const char* field : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                            "intermediate_size", "vocab_size", "max_position_embeddings", "head_dim"}) {
    SCOPED_TRACE(field);
    const std::string begin = std::string("\"") + field + "\": ";
    const size_t at = config.find(begin);
    ASSERT_NE(at, std::string::npos);
    const std::string was = config.substr(at, config.find_first_of(",\n", at) - at);
    const std::string named = std::string("config.json: field \"") + field + "\" is ";
    for (const char* value : {"-1", "0", "1000000000000"}) {
      ExpectConfigError(was, begin + value, 65, {named + value + "; must be from 1 to "});
    }
    for (const char* value : {"\"x\"", "1.5"}) {
      ExpectConfigError(was, begin + value, 65, {named + value + "; a whole number belongs there"});
    }
  }
}

TEST_F(BadModel, UnsupportedModelsNameTheField) {
  ExpectConfigError("\"model_type\": \"llama\"", "\"model_type\": \"mamba\"", 2,
                    {"field \"model_type\" is \"mamba\": not supported"});
  ExpectConfigError("\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", 2, {"hidden_act"});
  ExpectConfigError("\"use_cache\": true", "\"quantization_config\": {\"bits\": 4}", 2,
                    {"quantization_config"});
  ExpectConfigError("\"rope_type\": \"llama3\"", "\"rope_type\": \"yarn\"", 2, {"yarn"});
}

TEST_F(BadModel, MissingSurplusAndMisshapenTensors) {
  ExpectConfigError("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5", 66,
                    {"\"model.layers.4.input_layernorm.weight\" is missing", "8 more such faults"});
  ExpectConfigError("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", 65, {"belongs to no Llama"});
  ExpectConfigError("\"intermediate_size\": 576", "\"intermediate_size\": 512", 65,
                    {"has the shape [576, 256], where config.json asks for [512, 256]"});
}

TEST_F(BadModel, ABrokenTokenizer) {
  const std::string model = CopyOfTiny();
  sys::WriteFileAtomic(model + "/tokenizer.json", std::string_view("{\"model\": 7}"));
  ExpectError(Preheat({"run", "--model-id", model, "--execution", "interpreter"}), 65, {"tokenizer.json"});
  ExpectError(Build(model), 65, {model + "/tokenizer.json"});
  EXPECT_FALSE(sys::Exists(File("x.bin")));
}

TEST_F(BadModel, ABuildWithoutATokenizerSaysSo) {
  const std::string model = CopyOfTiny();
  sys::RemoveFile(model + "/tokenizer.json");
  const auto result = Build(model);
  ExpectDone(result);
  EXPECT_THAT(result.err, ::testing::HasSubstr(
                              model + "/tokenizer.json is missing: the artifact goes without a tokenizer"));
  const auto inspected = Preheat({"inspect", File("x.bin")});
  ExpectDone(inspected);
  EXPECT_THAT(inspected.out, ::testing::Not(::testing::HasSubstr("tokenizer")));
}

TEST_F(BadModel, APromptBeyondTheLastPosition) {
  ExpectError(Preheat(OnTiny("run", {"--prompt", kSum, "--max-new-tokens", "5000"})), 2,
              {"9 prompt tokens and --max-new-tokens 5000 exceed the model's max_position_embeddings of 4096",
               "at most 4087 new tokens"});
  std::string ids = "5";
  for (int i = 1; i < 4100; ++i) ids += ",5";
  const std::string text = "4100 prompt tokens and --max-new-tokens ";
  const std::string advice = "exceed the model's max_position_embeddings of 4096; use a shorter prompt\n";
  ExpectError(PreheatRun(OnTiny("", {"--prompt-ids", ids})), 2, {text + "128 " + advice});
  ExpectError(Preheat(OnTiny("benchmark", {"--prompt-ids", ids, "--single-mode", "compile_preload"})), 2,
              {text + "128 " + advice});
  ExpectError(Preheat({"logits", "--model-id", TinyModel(), "--prompt-ids", ids, "--output", File("l")}), 2,
              {text + "1 " + advice});
}

}  // namespace
}  // namespace preheat::testing
