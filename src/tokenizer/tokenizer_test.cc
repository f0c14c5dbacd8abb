#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "tokenizer/tokenizers_for_test.h"
#include "tokenizer/utf8.h"

namespace preheat::tokenizer {
namespace {

using base::Error;
using base::ErrorKind;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int32_t> Ids(const rapidjson::Value& array) {
  std::vector<int32_t> ids;
  for (const auto& id : array.GetArray()) ids.push_back(id.GetInt());
  return ids;
}

std::string Text(const rapidjson::Value& value) {
  return {value.GetString(), value.GetStringLength()};
}

// The ids in testdata/tokenizer come from Hugging Face's tokenizers (make_cases.py there).
class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, IdsAndTextsAreHuggingFaces) {
  rapidjson::Document golden;
  const std::string json = ReadWhole(fmt::format("{}/tokenizer/{}.json", PREHEAT_TESTDATA, GetParam()));
  ASSERT_FALSE(golden.Parse(json.data(), json.size()).HasParseError());
  const std::string file = Text(golden["tokenizer"]);
  const Tokenizer parsed = Tokenizer::Parse(
      file[0] == '{' ? file : ReadWhole(fmt::format("{}/{}", PREHEAT_SOURCE_DIR, file)), file);
  const std::string image = parsed.Serialize();
  const Tokenizer loaded = Tokenizer::FromSerialized(image, "image");
  ASSERT_GT(golden["cases"].Size(), 80u);
  for (const Tokenizer* tokenizer : {&parsed, &loaded}) {
    for (const auto& item : golden["cases"].GetArray()) {
      const std::string text = Text(item["text"]);
      SCOPED_TRACE(text);
      const auto special = Ids(item["ids_special"]);
      EXPECT_EQ(tokenizer->Encode(text, {.add_bos = false}), Ids(item["ids"]));
      EXPECT_EQ(tokenizer->Encode(text, {.add_bos = false, .parse_special = true}), special);
      EXPECT_EQ(tokenizer->Decode(special), Text(item["decoded"]));
      EXPECT_EQ(tokenizer->Decode(special, {.skip_special = true}), Text(item["decoded_skip"]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizer, GoldenTest,
                         testing::Values("tiny_instruct", "merges_as_strings", "digits_gpt2", "more_added"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Llama3, GivesThePeersIdsForTheirTexts) {
  const std::string json = SharedTestData("llama-3.2-3b-instruct/tokenizer.json");
  const std::string texts = SharedTestData("peer_tests/tokenizer/ggml-vocab-llama-bpe.gguf.inp");
  const std::string ids = SharedTestData("peer_tests/tokenizer/ggml-vocab-llama-bpe.gguf.out");
  if (json.empty() || texts.empty() || ids.empty()) GTEST_SKIP() << "[SKIP] no shared test data";
  const Tokenizer tokenizer = Tokenizer::Parse(json, "tokenizer.json");
  EXPECT_EQ(tokenizer.vocab_size(), 128256);
  EXPECT_EQ(tokenizer.bos_id(), 128000);
  EXPECT_EQ(tokenizer.TokenId("<|eot_id|>"), 128009);

  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::istringstream lines(ids);
  int count = 0;
  for (size_t begin = 0; begin <= texts.size(); ++count) {
    const size_t end = std::min(texts.find(kSeparator, begin), texts.size());
    const std::string text = texts.substr(begin, end - begin);
    std::string line;  // stays empty behind the last: the last text is the empty one
    std::getline(lines, line);
    std::istringstream words(line);
    const std::vector<int32_t> expected{std::istream_iterator<int32_t>(words), {}};
    EXPECT_EQ(tokenizer.Encode(text, {.add_bos = false}), expected) << text;
    EXPECT_EQ(tokenizer.Decode(expected), text);
    begin = end + kSeparator.size();
  }
  EXPECT_EQ(count, 47);
}

class TinyInstructTest : public testing::Test {
 protected:
  const Tokenizer tokenizer_ = Tokenizer::Parse(TinyInstructJson(), "tokenizer.json");
};

// prompts[] of testdata/golden/tiny-instruct/golden.json: chat0 to chat7 are rendered templates, special
// tokens and all.
TEST_F(TinyInstructTest, TheGoldenPromptsGoRound) {
  rapidjson::Document golden;
  golden.Parse(ReadWhole(PREHEAT_TESTDATA "/golden/tiny-instruct/golden.json").c_str());
  ASSERT_FALSE(golden.HasParseError());
  ASSERT_GT(golden["prompts"].Size(), 0u);
  for (const auto& prompt : golden["prompts"].GetArray()) {
    const std::vector<int32_t> ids = Ids(prompt["ids"]);
    const std::string text = tokenizer_.Decode(ids);
    EXPECT_EQ(tokenizer_.Encode(text, {.add_bos = false, .parse_special = true}), ids) << text;
  }
}

TEST_F(TinyInstructTest, KnowsItsSpecialTokens) {
  EXPECT_EQ(tokenizer_.vocab_size(), 2048);
  EXPECT_EQ(tokenizer_.bos_id(), 2038);
  EXPECT_EQ(tokenizer_.TokenId("<|eot_id|>"), 2047);
  EXPECT_EQ(tokenizer_.TokenId("<|eot_id|"), std::nullopt);
  EXPECT_TRUE(tokenizer_.IsSpecial(2047));
  EXPECT_FALSE(tokenizer_.IsSpecial(5));
  EXPECT_FALSE(tokenizer_.IsSpecial(-1));
  EXPECT_FALSE(tokenizer_.IsSpecial(2048));
  EXPECT_FALSE(tokenizer_.HasToken(2048));
  EXPECT_TRUE(tokenizer_.HasToken(2047));
  EXPECT_EQ(tokenizer_.TokenId(tokenizer_.TokenBytes(300)), 300);
}

TEST_F(TinyInstructTest, BosStandsBeforeTheTextAndOnlyOnce) {
  EXPECT_THAT(tokenizer_.Encode(""), ElementsAre(2038));
  EXPECT_THAT(tokenizer_.Encode("", {.add_bos = false}), IsEmpty());
  const auto without = tokenizer_.Encode("Hello", {.add_bos = false});
  auto with = tokenizer_.Encode("Hello");
  ASSERT_EQ(with[0], 2038);
  with.erase(with.begin());
  EXPECT_EQ(with, without);
}

TEST_F(TinyInstructTest, SpecialTokensInUserTextStayText) {
  for (const int32_t id : tokenizer_.Encode("<|eot_id|><|begin_of_text|>", {.add_bos = false})) {
    EXPECT_FALSE(tokenizer_.IsSpecial(id));
  }
  EXPECT_THAT(tokenizer_.Encode("<|eot_id|>", {.add_bos = false, .parse_special = true}), ElementsAre(2047));
}

TEST_F(TinyInstructTest, InvalidUtf8IsReadAsReplacementCharacters) {
  EXPECT_EQ(tokenizer_.Encode("a\xFF z\xE3\x81"), tokenizer_.Encode("a\uFFFD z\uFFFD"));
  EXPECT_EQ(tokenizer_.Decode(tokenizer_.Encode("\xC0", {.add_bos = false})), kReplacementCharacter);
}

TEST_F(TinyInstructTest, RandomTextGoesRound) {
  std::mt19937 random(22);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 == 0 ? random() : 0x20 + random() % 0x60);
    const std::string text = ReplaceInvalidUtf8(bytes);
    for (const bool parse_special : {false, true}) {
      const auto ids = tokenizer_.Encode(bytes, {.add_bos = false, .parse_special = parse_special});
      ASSERT_EQ(tokenizer_.Decode(ids), text) << "round " << round;
    }
  }
}

TEST_F(TinyInstructTest, AMegabyteOfOneClassIsNoTrouble) {
  for (const std::string unit : {"a", " ", "\n", "!", "1", "é", "<", "<|eot_id|>"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    const auto ids = tokenizer_.Encode(text, {.add_bos = false, .parse_special = true});
    EXPECT_TRUE(tokenizer_.Decode(ids) == text) << unit;
  }
}

TEST_F(TinyInstructTest, IdsWithoutATokenDecodeToNothing) {
  EXPECT_EQ(tokenizer_.Decode(std::vector<int32_t>{-1, 5000, INT32_MAX, INT32_MIN}), "");
}

TEST(Tokenizer, WithoutATemplateThereIsNoBos) {
  TestFile file;
  file.post_processor = "null";
  const Tokenizer tokenizer = Tokenizer::Parse(file.Json(), "test");
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_THAT(tokenizer.Encode("ab"), ElementsAre(256));
}

TEST(Tokenizer, AddedTokensThatAreNotSpecialAreAlwaysFound) {
  const Tokenizer tokenizer = Tokenizer::Parse(TestFile().Json(), "test");
  EXPECT_THAT(tokenizer.Encode("a<x>b<s>", {.add_bos = false}), ElementsAre('a', 260, 'b', '<', 's', '>'));
  EXPECT_THAT(tokenizer.Encode("a<x>b<s>", {.add_bos = false, .parse_special = true}),
              ElementsAre('a', 260, 'b', 259));
}

TEST(Tokenizer, ItCanBeMoved) {
  Tokenizer first = Tokenizer::Parse(TestFile().Json(), "test");
  const Tokenizer second = std::move(first);
  EXPECT_THAT(second.Encode("abc<x>"), ElementsAre(259, 257, 260));
}

TEST(Tokenizer, APatternsErrorNamesTheFile) {
  TestFile file;
  file.pre_tokenizer =
      R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\w+"},"behavior":"Isolated"},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})";
  try {
    Tokenizer::Parse(file.Json(), "my/tokenizer.json");
    FAIL() << "it was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_EQ(error.message(),
              "my/tokenizer.json: pre_tokenizer: split pattern \\w+: \\w at byte 0 is not supported");
  }
}

}  // namespace
}  // namespace preheat::tokenizer
