// Weight files that are not what they should be: message and exit code.
#define RAPIDJSON_HAS_STDSTRING 1
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using rapidjson::Document;
using rapidjson::Value;
using ::testing::HasSubstr;

constexpr char kTensor[] = "model.layers.1.self_attn.k_proj.weight";  // bf16 [64, 256]
constexpr char kOther[] = "model.layers.0.self_attn.k_proj.weight";   // of the same shape

class BadWeights : public EndToEnd {
 protected:
  void SetUp() override {
    model_ = CopyOfTiny();
    const std::string file = sys::ReadFile(Weights());
    uint64_t size = 0;
    std::memcpy(&size, file.data(), sizeof(size));
    header_ = file.substr(sizeof(size), size);
    data_ = file.substr(sizeof(size) + size);
  }

  std::string Weights() const { return model_ + "/model.safetensors"; }
  void Write(const std::string& header, const std::string& data) const {
    const uint64_t size = header.size();
    std::string file(reinterpret_cast<const char*>(&size), sizeof(size));
    sys::WriteFileAtomic(Weights(), file + header + data);
  }
  void ExpectBuildFails(int exit_code, Words texts) const {
    texts.insert(texts.begin(), model_);
    ExpectError(Preheat({"build", "--model-id", model_, "--compile-mode", "default", "--cache-path",
                         File("x.bin"), "--metadata-path", File("x.json")}),
                exit_code, texts);
    EXPECT_FALSE(sys::Exists(File("x.bin")));
  }
  // The outcome where the header says something else of kTensor.
  void ExpectTensorError(const std::function<void(Value&, Document&)>& edit, const Words& texts) const {
    Document header;
    header.Parse(header_.c_str());
    edit(header[kTensor], header);
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    header.Accept(writer);
    Write(buffer.GetString(), data_);
    Words all = {std::string("tensor \"") + kTensor + "\""};
    all.insert(all.end(), texts.begin(), texts.end());
    ExpectBuildFails(65, all);
  }
  void ExpectFieldError(const char* field, const char* json, const Words& texts) const {
    SCOPED_TRACE(json);
    ExpectTensorError(
        [&](Value& tensor, Document& header) {
          Document value(&header.GetAllocator());
          value.Parse(json);
          tensor[field].Swap(value);
        },
        texts);
  }

  std::string model_;
  std::string header_;
  std::string data_;
};

TEST_F(BadWeights, TensorsThatOverlapOrLeaveAHole) {
  ExpectTensorError(
      [](Value& tensor, Document& header) {
        tensor["data_offsets"].CopyFrom(header[kOther]["data_offsets"], header.GetAllocator());
      },
      {"overlaps the tensor before it"});
  ExpectTensorError(
      [](Value& tensor, Document&) {
        for (Value& offset : tensor["data_offsets"].GetArray()) offset.SetUint64(offset.GetUint64() + 2);
      },
      {"there is a hole before it"});
  ExpectFieldError("data_offsets", "[0, 1000000000000000]", {"overlaps the tensor before it"});
  ExpectTensorError(
      [](Value& tensor, Document&) { std::swap(tensor["data_offsets"][0], tensor["data_offsets"][1]); },
      {"its end lies before its begin"});
  ExpectFieldError("data_offsets", "[-2, 5]", {"a negative number where it does not belong"});
}

TEST_F(BadWeights, DTypes) {
  ExpectFieldError("dtype", "\"F16\"", {"is of dtype F16, where \"model.embed_tokens.weight\" is of BF16"});
  ExpectFieldError("dtype", "\"F32\"", {"its shape [64, 256] of F32 needs 65536 bytes"});
  ExpectFieldError("dtype", "\"I16\"", {"is of dtype I16"});
  ExpectFieldError("dtype", "\"Q9\"", {"has the unknown dtype \"Q9\""});
  ExpectFieldError("dtype", "16", {"a number where it does not belong"});
}

TEST_F(BadWeights, Shapes) {
  const std::string asked = ", where config.json asks for [64, 256]";
  ExpectFieldError("shape", "[256, 64]", {"has the shape [256, 64]" + asked});
  ExpectFieldError("shape", "[64, 256, 1]", {"has the shape [64, 256, 1]" + asked});
  ExpectFieldError("shape", "[64, 128]", {"its shape [64, 128] of BF16 needs 16384 bytes"});
  ExpectFieldError("shape", "[-64, -256]", {"a negative number where it does not belong"});
  ExpectFieldError("shape", "[4611686018427387904, 4]", {"its shape [4611686018427387904, 4] has no size"});
}

TEST_F(BadWeights, ATensorTooManyOrTooFew) {
  const std::string end = std::to_string(data_.size());
  const std::string more = std::to_string(data_.size() + 2);
  const std::string extra = "{\"model.extra\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[" + end +
                            "," + more + "]}," + header_.substr(1);
  Write(extra, data_ + "ab");
  ExpectBuildFails(65, {"tensor \"model.extra\" belongs to no Llama of this config.json"});
  std::string renamed = header_;
  renamed.replace(renamed.find(kTensor), std::strlen(kTensor), "model.layers.1.self_attn.k_proj.weighs");
  Write(renamed, data_);
  ExpectBuildFails(66, {std::string("tensor \"") + kTensor + "\" is missing"});
}

TEST_F(BadWeights, Cut) {
  std::filesystem::resize_file(Weights(), 100000);
  ExpectBuildFails(65, {"the file is cut off"});
  // Whoever only preloads does not run into the missing pages either.
  ExpectError(PreheatRun(OnTiny("", {"--model-id", model_, "--prompt", kSum})), 65, {"the file is cut off"});
  std::filesystem::resize_file(Weights(), 2000);
  ExpectBuildFails(65, {"a header of "});
  std::filesystem::resize_file(Weights(), 4);
  ExpectBuildFails(65, {"4 bytes are no safetensors file"});
  std::filesystem::resize_file(Weights(), 0);
  ExpectBuildFails(65, {"0 bytes are no safetensors file"});
}

TEST_F(BadWeights, AHeaderThatIsNone) {
  Write("{\"a\":      ", data_);
  ExpectBuildFails(65, {"header is not valid JSON"});
  Write("[]      ", data_);
  ExpectBuildFails(65, {"header: a list where the outer object belongs"});
  Write(header_, data_ + "12345678");
  ExpectBuildFails(65, {"8 bytes of data follow the last tensor"});
  const uint64_t huge = 100'000'000'000;
  std::string file = sys::ReadFile(Weights());
  std::memcpy(file.data(), &huge, sizeof(huge));
  sys::WriteFileAtomic(Weights(), file);
  ExpectBuildFails(65, {"a header of 100000000000 bytes"});
}

TEST_F(BadWeights, AnIndexThatDoesNotFitItsFiles) {
  const std::string index = model_ + "/model.safetensors.index.json";
  std::filesystem::rename(Weights(), model_ + "/a.safetensors");
  const auto expect = [&](const std::string& text, int exit_code, const Words& texts) {
    sys::WriteFileAtomic(index, text);
    const auto result = Preheat({"build", "--model-id", model_, "--compile-mode", "default", "--cache-path",
                                 File("x.bin"), "--metadata-path", File("x.json")});
    ExpectError(result, exit_code, texts);
    EXPECT_THAT(result.err, HasSubstr(index + ": "));
  };
  expect("{", 65, {"not valid JSON"});
  expect("{}", 65, {"field \"weight_map\" is missing"});
  expect("{\"weight_map\": 3}", 65, {"field \"weight_map\" is 3"});
  expect("{\"weight_map\": {\"model.norm.weight\": \"b.safetensors\"}}", 66,
         {"names the file b.safetensors, which is not there"});
  expect("{\"weight_map\": {\"model.norm.weight\": \"../a.safetensors\"}}", 65,
         {"outside of the model's folder"});
  expect("{\"weight_map\": {\"model.none\": \"a.safetensors\"}}", 65,
         {"tensor \"model.none\" is not in a.safetensors, where the index says"});
}

}  // namespace
}  // namespace preheat::testing
