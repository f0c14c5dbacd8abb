// Our own commands: logits, tokenize, inspect, verify, devices, help.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Logits {
  int64_t rows = 0;
  int64_t vocab = 0;
  std::vector<float> values;
};

// The file's one tensor `logits`, f32.
Logits ReadLogits(const std::string& path) {
  const std::string file = sys::ReadFile(path);
  uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), sizeof(header_size));
  const auto header = ParseJson(file.substr(8, header_size));
  const auto& tensor = header["logits"];
  EXPECT_EQ(tensor["dtype"].GetString(), std::string("F32"));
  Logits logits = {.rows = tensor["shape"][0].GetInt64(), .vocab = tensor["shape"][1].GetInt64()};
  logits.values.resize(static_cast<size_t>(logits.rows * logits.vocab));
  const std::string data = file.substr(8 + header_size);
  EXPECT_EQ(data.size(), logits.values.size() * sizeof(float));
  std::memcpy(logits.values.data(), data.data(), std::min(data.size(), logits.values.size() * sizeof(float)));
  return logits;
}

double LargestGap(std::span<const float> a, std::span<const float> b) {
  double gap = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    gap = std::max<double>(gap, std::abs(a[i] - b[i]));
  return gap;
}

class Commands : public EndToEnd {
 protected:
  Logits LogitsOf(const Words& more, const Environment& changes = {}) const {
    Words words = {
        "logits", "--model-id", TinyModel(), "--prompt", kSum, "--output", File("out/logits.safetensors")};
    words.insert(words.end(), more.begin(), more.end());
    const auto result = Preheat(words, changes);
    ExpectDone(result);
    EXPECT_THAT(result.out, StartsWith("[logits] wrote "));
    return result.ok() ? ReadLogits(File("out/logits.safetensors")) : Logits{};
  }
  // logits spans about 40 here; bf16 keeps 8 bits of it.
  static constexpr double kBf16Gap = 0.5;
};

TEST_F(Commands, LogitsOfAllExecutionsAreClose) {
  const Words preload = {"--cache-path", Tiny().artifact, "--metadata-path", Tiny().metadata,
                         "--forbid-compile"};
  const Logits compiled = LogitsOf(preload);
  const Logits reference = LogitsOf({"--execution", "interpreter", "--dtype", "float32"});
  EXPECT_EQ(compiled.rows, 1);
  EXPECT_EQ(compiled.vocab, 2048);
  EXPECT_LT(LargestGap(compiled.values, reference.values), kBf16Gap);
  Words decode = preload;
  decode.insert(decode.end(), {"--decode-from", "3"});
  EXPECT_LT(LargestGap(LogitsOf(decode).values, reference.values), kBf16Gap);
#ifdef PREHEAT_HAS_EAGER
  EXPECT_LT(LargestGap(LogitsOf({"--execution", "eager"}).values, reference.values), kBf16Gap);
#endif
}

TEST_F(Commands, LogitsOfAllPositionsAreARowEach) {
  const Logits last = LogitsOf({"--execution", "interpreter"});
  const Logits all = LogitsOf({"--execution", "interpreter", "--all-positions"});
  ASSERT_EQ(all.rows, 9);
  EXPECT_LT(LargestGap(std::span(all.values).last(2048), last.values), 1e-5);
  const Logits mixed = LogitsOf({"--execution", "interpreter", "--all-positions", "--decode-from", "4"});
  ASSERT_EQ(mixed.rows, 9);
  EXPECT_LT(LargestGap(mixed.values, all.values), kBf16Gap);
}

TEST_F(Commands, CompiledLogitsOfAllPositions) {
  const Logits all = LogitsOf({"--all-positions"}, WarmCache());
  const Logits reference = LogitsOf({"--all-positions", "--execution", "interpreter", "--dtype", "float32"});
  EXPECT_EQ(all.rows, 9);
  EXPECT_LT(LargestGap(all.values, reference.values), kBf16Gap);
}

TEST_F(Commands, LogitsWithJsonPrintsOneDocument) {
  const auto result = Preheat({"logits", "--model-id", TinyModel(), "--prompt", kSum, "--all-positions",
                               "--execution", "interpreter", "--output", File("l"), "--json"});
  ExpectDone(result);
  EXPECT_EQ(result.err, "");
  const auto document = ParseJson(result.out);
  ExpectKeys(document,
             {"path", "shape", "prompt_tokens", "execution", "target", "dtype", "async_compile_miss"});
  EXPECT_EQ(document["path"].GetString(), File("l"));
  EXPECT_EQ(document["shape"][0].GetInt64(), 9);
  EXPECT_EQ(document["shape"][1].GetInt64(), 2048);
  EXPECT_EQ(ReadLogits(File("l")).rows, 9);
}

TEST_F(Commands, SynthWithJsonPrintsOneDocument) {
  const auto result = Preheat({"synth", "--shape", TinyModel() + "/config.json", "--dtype", "fp16",
                               "--shards", "3", "--seed", "5", "--output", File("model"), "--json"});
  ExpectDone(result);
  EXPECT_EQ(result.err, "");
  const auto document = ParseJson(result.out);
  ExpectKeys(document, {"path", "weight_files", "weight_bytes", "dtype", "seed", "seconds"});
  EXPECT_EQ(document["dtype"].GetString(), std::string("float16"));
  EXPECT_EQ(document["seed"].GetInt64(), 5);
  ASSERT_EQ(document["weight_files"].Size(), 3u);
  uint64_t bytes = 0;
  for (const auto& name : document["weight_files"].GetArray()) {
    bytes += sys::GetFileInfo(File("model") + "/" + name.GetString()).value().size_bytes;
  }
  // Files begin with a header of a few KB.
  EXPECT_LT(document["weight_bytes"].GetUint64(), bytes);
  EXPECT_GT(document["weight_bytes"].GetUint64(), bytes - 30000);
}

TEST_F(Commands, LogitsRefusesWhatItCannotDo) {
  ExpectError(Preheat({"logits", "--model-id", TinyModel(), "--prompt", "x"}), 2, {"--output FILE"});
  const Words base = {"logits",      "--model-id", TinyModel(), "--execution",
                      "interpreter", "--output",   File("x")};
  const auto with = [&](const Words& more) {
    Words words = base;
    words.insert(words.end(), more.begin(), more.end());
    return Preheat(words);
  };
  ExpectError(with({}), 2, {"either --prompt or --prompt-ids"});
  ExpectError(with({"--prompt", "x", "--prompt-ids", "1"}), 2, {"either --prompt or --prompt-ids"});
  ExpectError(with({"--prompt-ids", "2048"}), 2,
              {"prompt token 2048 is not in the model's vocabulary of 2048"});
  ExpectError(with({"--prompt-ids", "5", "--decode-from", "0"}), 2, {"whole number of at least 1"});
  ExpectError(with({"--prompt-ids", "5", "--output", Tiny().metadata + "/x"}), 74, {"cannot be written"});
}

TEST_F(Commands, TokenizeGoesThereAndBack) {
  sys::SpawnOptions options;
  options.stdin_bytes = "\"What is 12 + 7?\"\n\"こんにちは 👋\\n\"\n\"<|eot_id|>\"\n\"\"\n";
  const auto there = Start(PREHEAT_BINARY, {"tokenize", "--model-id", TinyModel(), "--no-bos"}, options);
  ExpectDone(there);
  EXPECT_THAT(there.out, StartsWith("[429, 301, 220, 737, 466, 220, 22, 30]\n"));
  EXPECT_THAT(there.out, HasSubstr("\n[]\n"));
  const std::string texts = options.stdin_bytes;
  options.stdin_bytes = there.out;
  const auto back = Start(PREHEAT_BINARY, {"tokenize", "--model-id", TinyModel(), "--decode"}, options);
  ExpectDone(back);
  EXPECT_EQ(back.out, texts);
}

TEST_F(Commands, TokenizeTakesSpecialTokensOnlyWhereAsked) {
  sys::SpawnOptions options;
  options.stdin_bytes = "\"<|eot_id|>\"\n";
  const Words words = {"tokenize", "--model-id", TinyModel(), "--parse-special"};
  EXPECT_EQ(Start(PREHEAT_BINARY, words, options).out, "[2038, 2047]\n");
  const auto json = Start(PREHEAT_BINARY, {"tokenize", "--model-id", TinyModel(), "--json"}, options);
  const auto list = ParseJson(json.out);
  ASSERT_TRUE(list.IsArray());
  EXPECT_GT(list[0].Size(), 2u);  // the text, spelled out
  options.stdin_bytes = "no json\n";
  ExpectError(Start(PREHEAT_BINARY, words, options), 65, {"line 1 of standard input is not JSON"});
  options.stdin_bytes = "\"good\"\nno json\n";
  const auto half = Start(PREHEAT_BINARY, {"tokenize", "--model-id", TinyModel(), "--json"}, options);
  ExpectError(half, 65, {"line 2 of standard input is not JSON"});
  EXPECT_EQ(half.out, "");
  options.stdin_bytes = std::string(1'000'000, '[') + "\n";  // no stack is deep enough for it
  ExpectError(Start(PREHEAT_BINARY, words, options), 65, {"line 1 of standard input is not JSON"});
}

TEST_F(Commands, InspectShowsWhatIsInside) {
  const auto text = Preheat({"inspect", Tiny().artifact});
  ExpectDone(text);
  for (const char* part :
       {"model: tiny-instruct", "targets: x86-64-v", "buckets: 32; decode length 128",
        "dtype bfloat16, mode default", " prefill_32\n", " decode\n", "tokenizer ", "KV cache "}) {
    EXPECT_THAT(text.out, HasSubstr(part));
  }
  const auto json = Preheat({"inspect", Tiny().artifact, "--json"});
  ExpectDone(json);
  const auto document = ParseJson(json.out);
  ASSERT_TRUE(document.HasMember("entries"));
  EXPECT_GT(document["entries"].Size(), 4u);
}

TEST_F(Commands, VerifyJudgesEachProgram) {
  const auto good = Preheat({"verify", Tiny().artifact, "--model-id", TinyModel()});
  ExpectDone(good);
  EXPECT_THAT(good.out, HasSubstr(Tiny().artifact + ": usable\n"));
  const auto json = Preheat({"verify", Tiny().artifact, "--json"});
  ExpectDone(json);
  const auto document = ParseJson(json.out);
  EXPECT_EQ(document["verdict"].GetString(), std::string("usable"));
  EXPECT_EQ(document["programs"].Size(), 3u);
}

TEST_F(Commands, VerifyNamesAnotherModel) {
  const std::string other = CopyOfTiny();
  Edit(other + "/config.json", "\"rope_theta\": 500000.0", "\"rope_theta\": 10000.0");
  const auto result = Preheat({"verify", Tiny().artifact, "--model-id", other});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.out, HasSubstr("unusable: model: made for other shapes"));
}

TEST_F(Commands, VerifySaysWhatCompilingWouldMend) {
  const std::string wider = File("wider");
  ExpectDone(
      Preheat({"synth", "--shape", TinyModel() + "/config.json", "--dtype", "fp32", "--output", wider}));
  const auto verify = Preheat({"verify", Tiny().artifact, "--model-id", wider});
  EXPECT_EQ(verify.exit_code, 3);
  EXPECT_THAT(verify.out, HasSubstr("decode (x86-64-v"));
  EXPECT_THAT(verify.out,
              HasSubstr("needs compiling: weights: made for bfloat16, the checkpoint holds float32"));
  ExpectError(PreheatRun(OnTiny("", {"--model-id", wider, "--prompt", "x"})), 3,
              {"weights: float32 here, bfloat16 there"});
}

TEST_F(Commands, DevicesShowTargets) {
  ExpectDone(Preheat({"devices"}));
  const auto json = Preheat({"devices", "--json"});
  ExpectDone(json);
  const auto document = ParseJson(json.out);
  ASSERT_TRUE(document.HasMember("devices"));
  ExpectKeys(document["devices"][0], {"id", "name", "targets", "memory_bytes", "threads"});
  EXPECT_EQ(document["devices"][0]["id"].GetString(), std::string("cpu"));
}

TEST_F(Commands, VersionAndHelpAreResults) {
  EXPECT_THAT(Preheat({"--version"}).out, ::testing::MatchesRegex("preheat [0-9.]+\n"));
  EXPECT_THAT(PreheatRun({"--version"}).out, ::testing::MatchesRegex("preheat-run [0-9.]+\n"));
  const auto help = Preheat({"--help"});
  ExpectDone(help);
  for (const char* command : {"build", "run", "compare", "benchmark", "eager", "logits", "synth", "devices",
                              "inspect", "verify", "tokenize"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + command + " "));
    const auto result = Preheat({command, "--help"});
    ExpectDone(result);
    EXPECT_THAT(result.out, HasSubstr("--help"));
    EXPECT_EQ(result.err, "");
  }
  ExpectDone(PreheatRun({"--help"}));
}

}  // namespace
}  // namespace preheat::testing
