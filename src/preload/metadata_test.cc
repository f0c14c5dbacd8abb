#include "preload/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::preload {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Metadata Sample() {
  return {.model_id = "models/tiny",
          .mode = "max-autotune",
          .dynamic = "auto",
          .dtype = "bfloat16",
          .cache_implementation = "static",
          .prefill_lengths = {128, 256},
          .decode_length = 128,
          .timings = {{"prefill", 128, 0.5}},
          .timestamp_utc = "2026-01-01T00:00:00+00:00",
          .device_type = "cpu",
          .device_name = "A CPU",
          .targets = {"x86-64-v3"},
          .versions = {{"preheat", "0.1.0"}},
          .entries = {{"code", 5}},
          .cache_bytes = 1000};
}

TEST(Metadata, ReadsBackAndKeepsItsBytes) {
  const std::string json = ToJson(Sample());
  EXPECT_EQ(ToJson(ParseMetadata(json, "m.json")), json);
  EXPECT_THAT(json, HasSubstr("\n  \"compile\": {\n    \"cache_implementation\": \"static\","));
  EXPECT_THAT(json, HasSubstr("\"dynamic\": null"));
}

TEST(Metadata, DamageNamesTheField) {
  std::string json = ToJson(Sample());
  json.replace(json.find("\"decode_length\": 128"), 20, "\"decode_length\": \"\" ");
  try {
    ParseMetadata(json, "m.json");
    FAIL() << "nothing was thrown";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kCorrupt);
    EXPECT_THAT(error.message(), HasSubstr("m.json.warmup.decode_length"));
  }
}

TEST(Metadata, AnyCutOfTheTextIsAnErrorAndNoCrash) {
  const std::string json = ToJson(Sample());
  for (size_t size = 0; size + 2 < json.size(); ++size) {
    EXPECT_THROW(ParseMetadata(json.substr(0, size), "m.json"), base::Error) << size;
  }
}

TEST(Metadata, DeepNestingIsAnErrorNotAStackOverflow) {
  EXPECT_THROW(ParseMetadata(std::string(1'000'000, '['), "m.json"), base::Error);
  EXPECT_THROW(ParseMetadata(std::string(500'000, '[') + std::string(500'000, ']'), "m.json"), base::Error);
}

TEST(Metadata, TimesKeepTheirBits) {
  Metadata metadata = Sample();
  for (const double seconds : {0.1, 1.0 / 3, 123456.78901234567, 5e-324, 1.7976931348623157e308}) {
    metadata.timings[0].seconds = seconds;
    EXPECT_EQ(ParseMetadata(ToJson(metadata), "m.json").timings[0].seconds, seconds);
  }
}

TEST(Metadata, EachDifferingFactorIsALine) {
  Metadata run = Sample();
  EXPECT_TRUE(Mismatches(Sample(), run).empty());
  run.dtype = "float32";
  run.mode = "default";
  EXPECT_THAT(Mismatches(Sample(), run), ElementsAre("dtype: built bfloat16, this run float32",
                                                     "compile mode: built max-autotune, this run default"));
}

Gpu Card(const std::string& name, const std::string& capability) {
  return {.name = name,
          .capability = capability,
          .total_memory_bytes = 85'000'000'000,
          .cuda_runtime_version = "13.0"};
}

TEST(Metadata, ACardReadsBackAndNoneIsNull) {
  Metadata metadata = Sample();
  EXPECT_THAT(ToJson(metadata), HasSubstr("\"gpu\": null"));
  metadata.gpu = Card("A card", "9.0");
  const std::string json = ToJson(metadata);
  EXPECT_THAT(json, HasSubstr("\"gpu\": {\n      \"capability\": \"9.0\","));
  EXPECT_EQ(ParseMetadata(json, "m.json").gpu, metadata.gpu);
  metadata.device_name.clear();
  EXPECT_THAT(ToJson(metadata), HasSubstr("\"device_name\": null"));
  EXPECT_EQ(ParseMetadata(ToJson(metadata), "m.json").device_name, "");
}

TEST(Metadata, AnotherDeviceThanBuiltForIsALine) {
  Metadata built = Sample(), run = Sample();
  built.device_type = run.device_type = "cuda";
  built.targets = {"sm_80", "sm_90a"};
  built.gpu = Card("A card", "9.0");
  run.targets = {"sm_90a"};
  run.gpu = Card("A card", "9.0");
  EXPECT_TRUE(Mismatches(built, run).empty());
  run.gpu->cuda_runtime_version = "12.4";  // machine code does not depend on it
  EXPECT_TRUE(Mismatches(built, run).empty());
  run.gpu = Card("Another card", "8.6");
  run.targets = {"sm_86"};
  EXPECT_THAT(Mismatches(built, run),
              ElementsAre("gpu: built A card (capability 9.0, 85.0 GB), this run Another card (capability "
                          "8.6, 85.0 GB)",
                          "targets: built sm_80,sm_90a, this run sm_86"));
  built.gpu.reset();  // built without a card
  EXPECT_THAT(Mismatches(built, run), ElementsAre("targets: built sm_80,sm_90a, this run sm_86"));
  run.device_type = "cpu";
  run.gpu.reset();
  run.targets = {"x86-64-v3"};
  EXPECT_THAT(Mismatches(built, run), ElementsAre("device_type: built cuda, this run cpu",
                                                  "targets: built sm_80,sm_90a, this run x86-64-v3"));
}

TEST(Metadata, TheSameModelInAnotherFolderIsTheSame) {
  Metadata run = Sample();
  for (const char* same : {"/srv/models/tiny", "tiny/", "hub/tiny"}) {
    run.model_id = same;
    EXPECT_TRUE(Mismatches(Sample(), run).empty()) << same;
  }
  run.model_id = "models/tiny-2";
  EXPECT_THAT(Mismatches(Sample(), run), ElementsAre("model_id: built models/tiny, this run models/tiny-2"));
}

TEST(Metadata, NoFileIsNothing) {
  EXPECT_FALSE(ReadMetadata("/no/such/file.json"));
}

}  // namespace
}  // namespace preheat::preload
