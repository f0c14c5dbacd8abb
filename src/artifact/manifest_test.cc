#include "artifact/manifest.h"

#include <gtest/gtest.h>

#include <random>

#include "artifact/artifact_for_test.h"
#include "base/error.h"

namespace preheat::artifact {
namespace {

using base::Error;
using base::ErrorKind;

std::string SampleJson() {
  return ManifestToJson(Artifact::FromBytes(SampleWriter().Finish()).manifest());
}

TEST(Manifest, ParseThenPrintIsTheSameText) {
  EXPECT_EQ(ManifestToJson(ManifestFromJson(SampleJson())), SampleJson());
}

TEST(Manifest, TheTextIsCanonical) {
  Manifest manifest = SampleDescription();
  EXPECT_EQ(
      ManifestToJson(manifest),
      R"({"entries":[],"for":{"batch_size":1,"cache_implementation":"static","decode_length":128,"dtype":"bf16",)"
      R"("dynamic":"auto","mode":"default","prefill_lengths":[256,128],"targets":["x86-64-v4","x86-64-v3"]},)"
      R"("from":{"config_hash":")" +
          std::string(64, 'a') +
          R"(","id":"tiny-instruct"},"notes":{"made":"by a \"test\""},)"
          R"("with":{"toolchains":["gcc version 12.2.0, x86_64-linux-gnu"],)"
          R"("versions":{"abi":"1","preheat":"0.1.0"}}})");
}

TEST(Manifest, FieldsOfALaterMinorVersionAreIgnored) {
  std::string json = SampleJson();
  json.insert(1, R"("zzz":[1,{"a":null}],)");
  EXPECT_EQ(ManifestToJson(ManifestFromJson(json)), SampleJson());
}

// Each value in turn is replaced by one of another type; the error names a field.
TEST(Manifest, WrongTypesAreCorruptAndNamed) {
  const std::string json = SampleJson();
  const std::string wrong[] = {"null", "true", "-1",     "1.5",       "\"x\"",
                               "[]",   "{}",   "[null]", "{\"a\":1}", "1e999"};
  int refused = 0;
  for (size_t at = json.find(':'); at != std::string::npos; at = json.find(':', at + 1)) {
    if (json[at - 1] != '"') continue;
    size_t end = at + 1;
    int depth = 0;
    bool quoted = false;
    for (; end < json.size(); ++end) {
      const char c = json[end];
      if (c == '"' && json[end - 1] != '\\') quoted = !quoted;
      if (quoted) continue;
      if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
      depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    }
    for (const std::string& value : wrong) {
      try {
        ManifestFromJson(json.substr(0, at + 1) + value + json.substr(end));
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 200);
}

TEST(Manifest, EveryFieldIsNeeded) {
  const std::string json = SampleJson();
  for (const char* field : {"entries",
                            "for",
                            "from",
                            "notes",
                            "with",
                            "batch_size",
                            "cache_implementation",
                            "decode_length",
                            "dtype",
                            "dynamic",
                            "mode",
                            "prefill_lengths",
                            "targets",
                            "config_hash",
                            "id",
                            "toolchains",
                            "versions",
                            "encoding",
                            "kind",
                            "name",
                            "offset",
                            "parts",
                            "sha256",
                            "size",
                            "stored_size",
                            "target"}) {
    std::string without = json;
    const std::string quoted = fmt::format("\"{}\":", field);
    const size_t at = without.find(quoted);
    ASSERT_NE(at, std::string::npos) << field;
    without[at + 1] = '_';
    try {
      ManifestFromJson(without);
      ADD_FAILURE() << field;
    } catch (const Error& error) {
      EXPECT_EQ(error.message(), std::string("the manifest's field ") + field + " is missing");
    }
  }
}

TEST(Manifest, DeepNestingDoesNotOverflowTheStack) {
  EXPECT_THROW(ManifestFromJson(std::string(1000000, '[')), Error);
  EXPECT_THROW(ManifestFromJson(std::string(500000, '[') + std::string(500000, ']')), Error);
}

TEST(Manifest, TextThatIsNoJsonIsCorrupt) {
  for (const char* text : {"", "{", "nul", "{\"a\":\"\xff\"}", "{} {}", "[]", "3"}) {
    EXPECT_THROW(ManifestFromJson(text), Error) << text;
  }
}

TEST(Manifest, RandomDamageIsAnErrorOrAManifest) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  const std::string json = SampleJson();
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = json;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random() % 128);
    try {
      ManifestFromJson(damaged);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    }
  }
}

}  // namespace
}  // namespace preheat::artifact
