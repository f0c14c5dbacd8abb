#include "tokenizer/definition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "tokenizer/token_table.h"
#include "tokenizer/tokenizers_for_test.h"

namespace preheat::tokenizer {
namespace {

using base::Error;
using base::ErrorKind;
using testing::HasSubstr;

// Reads `json` as far as the tables.
void Load(const std::string& json) {
  TokenTable::Build(ParseDefinition(json, "t.json"), "t.json");
}

void ExpectError(const std::string& json, ErrorKind kind, const std::string& part) {
  try {
    Load(json);
    ADD_FAILURE() << "accepted; expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(base::ErrorKindName(error.kind()), base::ErrorKindName(kind)) << error.message();
    EXPECT_THAT(error.message(), HasSubstr(part));
    EXPECT_THAT(error.message(), testing::StartsWith("t.json: "));
  }
}

void ExpectCorrupt(const std::string& json, const std::string& part) {
  ExpectError(json, ErrorKind::kCorrupt, part);
}
void ExpectUnsupported(const TestFile& file, const std::string& part) {
  ExpectError(file.Json(), ErrorKind::kUnsupported, part);
}

TEST(Definition, ReadsTheTestFile) {
  const Definition definition = ParseDefinition(TestFile().Json(), "t.json");
  EXPECT_EQ(definition.vocabulary.size(), 259u);
  EXPECT_EQ(definition.merges.size(), 3u);
  EXPECT_EQ(definition.Text(definition.merges[1].left), "ab");
  EXPECT_EQ(definition.Text(definition.merges[1].right), "c");
  EXPECT_EQ(definition.bos_id, 259u);
  EXPECT_FALSE(definition.ignore_merges);
  EXPECT_EQ(definition.patterns.size(), 1u);
  ASSERT_EQ(definition.added.size(), 2u);
  EXPECT_TRUE(definition.added[0].special);
  EXPECT_EQ(definition.added[1].content, "<x>");
}

TEST(Definition, MergesMayBePairs) {
  TestFile file;
  file.merges = R"([["a","b"],["ab","c"],["b","c"]])";
  const Definition definition = ParseDefinition(file.Json(), "t.json");
  ASSERT_EQ(definition.merges.size(), 3u);
  EXPECT_EQ(definition.Text(definition.merges[1].left), "ab");
  EXPECT_EQ(definition.Text(definition.merges[1].right), "c");
}

TEST(Definition, TheOrderOfMembersDoesNotMatter) {
  TestFile file;
  std::string json = file.Json();
  const size_t merges = json.find("\"merges\"");
  const std::string tail = json.substr(merges, json.size() - merges - 2);
  json = json.substr(0, merges - 1) + "}}";
  json.insert(json.find("\"type\":\"BPE\""), tail + ",");
  EXPECT_EQ(ParseDefinition(json, "t.json").merges.size(), 3u);
  EXPECT_NO_THROW(Load(json));
}

TEST(Definition, TextThatIsNoJsonIsCorrupt) {
  const std::string whole = TestFile().Json();
  ExpectCorrupt("", "not a tokenizer.json: at byte 0");
  ExpectCorrupt("[]", "top level: not a JSON object");
  ExpectCorrupt("{}", "model: missing");
  ExpectCorrupt(whole.substr(0, whole.size() / 2), "not a tokenizer.json");
  ExpectCorrupt(whole + "x", "text after the end");
  ExpectCorrupt(whole + std::string(1, '\0') + "x", "text after the end");
  ExpectCorrupt(std::string(100000, '['), "nested too deeply");
  ExpectCorrupt("{\"a\":" + std::string(100000, '['), "nested too deeply");
}

TEST(Definition, TheVocabularyMustBeOne) {
  TestFile file;
  const auto with = [&](const char* extra) {
    file.extra_vocabulary = extra;
    return file.Json();
  };
  ExpectCorrupt(with(R"(,"ab":"256")"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":-1)"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":1.5)"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":4294967296)"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":null)"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":[1])"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":{"a":1})"), "model.vocab: an id");
  ExpectCorrupt(with(R"(,"ab":7)"), "id 7 stands twice");
  ExpectCorrupt(with(R"(,"ab":256,"ab":257)"), "ids 256 and 257 are the same token");
  ExpectError(with(R"(,"ab":2097152)"), ErrorKind::kUnsupported, "token id 2097152");
  ExpectCorrupt(with("},\"vocab\":{"), "model.vocab stands twice");
  ExpectCorrupt(R"({"model":{"type":"BPE","vocab":[],"merges":[]}})", "model.vocab: not an object");
  ExpectCorrupt(R"({"model":{"type":"BPE","vocab":{}}})", "model.merges: missing");
}

TEST(Definition, AByteWithoutATokenIsUnsupported) {
  TestFile file;
  file.left_out_byte = 'q';
  ExpectUnsupported(file, "no token for byte 0x71");
  file.left_out_byte = 0xF7;  // never in UTF-8
  EXPECT_NO_THROW(Load(file.Json()));
}

TEST(Definition, MergesMustBeOfTheVocabulary) {
  TestFile file;
  const auto with = [&](const char* merges) {
    file.merges = merges;
    return file.Json();
  };
  ExpectCorrupt(with(R"(["ab"])"), "model.merges: an entry");
  ExpectCorrupt(with(R"(["a b c"])"), "model.merges: an entry");
  ExpectCorrupt(with(R"([["a"]])"), "model.merges: an entry");
  ExpectCorrupt(with(R"([["a","b","c"]])"), "model.merges: an entry");
  ExpectCorrupt(with(R"([[["a"],"b"]])"), "model.merges: an entry");
  ExpectCorrupt(with(R"([1])"), "model.merges: an entry");
  ExpectCorrupt(with(R"([{}])"), "model.merges: an entry");
  ExpectCorrupt(with(R"({})"), "model.merges: another kind of value");
  ExpectCorrupt(with(R"(["a d"])"), "model.merges[0]: \"a\" + \"d\" is not of tokens");
  ExpectCorrupt(with(R"(["a b","zz b"])"), "model.merges[1]");
  ExpectCorrupt(with(R"(["a "])"), "model.merges[0]");
  ExpectCorrupt(with(R"([["a","日"]])"), "outside the byte alphabet");
}

TEST(Definition, AddedTokensMustFitTheVocabulary) {
  TestFile file;
  file.post_processor = "null";
  const auto with = [&](const char* added) {
    file.added = added;
    return file.Json();
  };
  ExpectCorrupt(with(R"([{"id":259,"content":""}])"), "id 259 is empty");
  ExpectCorrupt(with(R"([{"id":259}])"), "added_tokens[0].content: missing");
  ExpectCorrupt(with(R"([{"content":"<s>"}])"), "added_tokens[0].id: missing");
  ExpectCorrupt(with(R"([{"id":259,"content":"<s>","special":1}])"), "added_tokens[0].special: another kind");
  ExpectCorrupt(with(R"([{"id":5,"content":"<s>"}])"), "id 5 is \"<s>\"");
  ExpectCorrupt(with(R"([{"id":259,"content":"ab"}])"), "\"ab\" is id 259, but in model.vocab it is 256");
  ExpectCorrupt(with(R"([{"id":259,"content":"<s>"},{"id":259,"content":"<t>"}])"), "id 259 stands twice");
  ExpectCorrupt(with(R"([{"id":259,"content":"<s>"},{"id":260,"content":"<s>"}])"), "\"<s>\" stands twice");
  ExpectCorrupt(with("[{\"id\":259,\"content\":\"\xFF\"}]"), "not valid UTF-8");
  ExpectCorrupt(with("{}"), "added_tokens: another kind of value");
  EXPECT_NO_THROW(Load(with(R"([{"id":256,"content":"ab"}])")));
  with(R"([{"id":259,"content":"<s>","lstrip":true}])");
  ExpectUnsupported(file, "added_tokens[0].lstrip: true is not supported");
  with(R"([{"id":259,"content":"<s>","single_word":true}])");
  ExpectUnsupported(file, "added_tokens[0].single_word");
}

TEST(Definition, WhatIsNotByteLevelBpeIsUnsupportedByName) {
  TestFile file;
  file.normalizer = R"({"type":"NFC"})";
  ExpectUnsupported(file, R"(normalizer: "NFC" is not supported)");
  file = {};
  file.model_fields = R"("type":"Unigram")";
  ExpectUnsupported(file, R"(model.type: "Unigram" is not supported)");
  for (const char* field :
       {R"("dropout":0.1)", R"("byte_fallback":true)", R"("end_of_word_suffix":"</w>")"}) {
    file.model_fields = std::string(R"("type":"BPE",)") + field;
    const std::string_view name(field + 1);
    ExpectUnsupported(file, "model." + std::string(name.substr(0, name.find('"'))));
  }
  file = {};
  file.decoder = R"({"type":"Metaspace"})";
  ExpectUnsupported(file, "decoder.type");
  file.decoder = "null";
  ExpectUnsupported(file, "decoder: null");
}

TEST(Definition, OtherPreTokenizersAreUnsupportedByName) {
  const std::string byte_level = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false})";
  const auto expect = [&](const std::string& pre_tokenizer, const std::string& part) {
    TestFile file;
    file.pre_tokenizer = pre_tokenizer;
    ExpectUnsupported(file, part);
  };
  const auto sequence = [](const std::string& steps) {
    return R"({"type":"Sequence","pretokenizers":[)" + steps + "]}";
  };
  const auto split = [&](const std::string& fields) {
    return sequence(R"({"type":"Split",)" + fields + "}");
  };
  expect("null", "pre_tokenizer: null");
  expect(R"({"type":"Metaspace"})", R"(pre_tokenizer.type: "Metaspace")");
  expect(sequence(R"({"type":"Whitespace"})"), R"(pre_tokenizer.pretokenizers[0].type: "Whitespace")");
  expect(sequence(byte_level + "," + byte_level), "pre_tokenizer.pretokenizers[1]: a step after ByteLevel");
  expect(sequence(R"({"type":"Digits"})"), "pre_tokenizer: ByteLevel is missing");
  expect(R"({"type":"ByteLevel","add_prefix_space":true})", "pre_tokenizer.add_prefix_space: true");
  expect(split(R"("pattern":{"Regex":"a"},"behavior":"Removed")"), R"(pretokenizers[0].behavior: "Removed")");
  expect(split(R"("pattern":{"Regex":"a"},"behavior":"Isolated","invert":true)"), "pretokenizers[0].invert");
  expect(split(R"("pattern":{"String":"a"},"behavior":"Isolated")"),
         "pretokenizers[0].pattern: only a Regex");
}

TEST(Definition, OtherPostProcessorsAreUnsupportedByName) {
  const auto expect = [&](const std::string& post_processor, const std::string& part) {
    TestFile file;
    file.post_processor = post_processor;
    ExpectUnsupported(file, part);
  };
  const auto single = [](const std::string& items) {
    return R"({"type":"TemplateProcessing","single":[)" + items +
           R"(],"special_tokens":{"<s>":{"ids":[259]},"<y>":{"ids":[259,260]}}})";
  };
  const std::string bos = R"({"SpecialToken":{"id":"<s>"}})";
  const std::string text = R"({"Sequence":{"id":"A"}})";
  expect(R"({"type":"RobertaProcessing"})", R"(post_processor.type: "RobertaProcessing")");
  expect(single(text + "," + bos), R"(single[1]: "<s>" after the text)");
  expect(single(bos + "," + bos + "," + text), "single[1]: more than one token");
  expect(single(bos), "single: a template without the text");
  expect(single(text + "," + text), "single[1]: the text twice");
  expect(single(R"({"SpecialToken":{"id":"<y>"}},)" + text), "other than one id");
  TestFile file;
  file.post_processor =
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<q>"}}],"special_tokens":{}})";
  ExpectCorrupt(file.Json(), "post_processor.special_tokens.<q>: missing");
  file.post_processor = single(bos + "," + text);
  file.added = "[]";
  ExpectCorrupt(file.Json(), "post_processor: id 259 is no token");
}

// Whatever the bytes: an error or a table, never a crash. Most damage must be found, or the loop tests
// nothing.
TEST(Definition, DamagedFilesNeverAbort) {
  const std::string whole = TestFile().Json();
  std::mt19937 random(23);
  int refused = 0;
  const int rounds = 3000;
  for (int round = 0; round < rounds; ++round) {
    std::string json = whole;
    const int changes = 1 + static_cast<int>(random() % 3);
    for (int i = 0; i < changes; ++i) {
      const size_t at = random() % json.size();
      switch (random() % 4) {
        case 0:
          json[at] = static_cast<char>(random());
          break;
        case 1:
          json.erase(at, 1 + random() % 20);
          break;
        case 2:
          json.insert(at, 1, "{}[]\",:0an"[random() % 10]);
          break;
        case 3:
          json.resize(at + 1);
          break;
      }
    }
    try {
      Load(json);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, rounds / 2);
}

}  // namespace
}  // namespace preheat::tokenizer
