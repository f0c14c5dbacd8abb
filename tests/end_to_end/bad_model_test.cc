// A model folder that is not what it should be: message and exit code.
#include <filesystem>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

class BadModel : public EndToEnd {
 protected:
  sys::SpawnResult Build(const std::string& model) const {
    return Preheat({"build", "--model-id", model, "--compile-mode", "default", "--cache-path", File("x.bin"),
                    "--metadata-path", File("x.json")});
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
  ExpectError(Build("/no/such/model"), 66, {"/no/such/model", "no such folder"});
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

TEST_F(BadModel, CutWeights) {
  const std::string model = CopyOfTiny();
  const std::string weights = model + "/model.safetensors";
  std::filesystem::resize_file(weights, 100000);
  ExpectError(Build(model), 65, {"the file is cut off"});
  std::filesystem::resize_file(weights, 4);
  ExpectError(Build(model), 65, {"4 bytes are no safetensors file"});
  std::filesystem::resize_file(weights, 0);
  ExpectError(Build(model), 65, {"model.safetensors"});
}

TEST_F(BadModel, AHeaderOf100GB) {
  const std::string model = CopyOfTiny();
  std::string bytes = sys::ReadFile(model + "/model.safetensors");
  const uint64_t size = 100'000'000'000;
  bytes.replace(0, sizeof(size), reinterpret_cast<const char*>(&size), sizeof(size));
  sys::WriteFileAtomic(model + "/model.safetensors", std::string_view(bytes));
  ExpectError(Build(model), 65, {"100000000000"});
}

TEST_F(BadModel, ABrokenTokenizer) {
  const std::string model = CopyOfTiny();
  sys::WriteFileAtomic(model + "/tokenizer.json", std::string_view("{\"model\": 7}"));
  ExpectError(Preheat({"run", "--model-id", model, "--execution", "interpreter"}), 65, {"tokenizer.json"});
}

TEST_F(BadModel, APromptBeyondTheLastPosition) {
  ExpectError(Preheat(OnTiny("run", {"--prompt", kSum, "--max-new-tokens", "5000"})), 2,
              {"9 prompt tokens and --max-new-tokens 5000 exceed the model's max_position_embeddings of 4096",
               "at most 4087 new tokens"});
}

}  // namespace
}  // namespace preheat::testing
