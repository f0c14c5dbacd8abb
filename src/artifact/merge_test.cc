#include "artifact/merge.h"

#include <gtest/gtest.h>

#include "artifact/artifact_for_test.h"
#include "base/error.h"

namespace preheat::artifact {
namespace {

using base::Error;
using base::ErrorKind;
using store::EntryKind;

Artifact Make(const Manifest& description, std::string_view tuned, std::string_view code) {
  ArtifactWriter writer(description);
  writer.Add(EntryKind::kTuning, SampleKey("shared"), "", tuned);
  writer.AddCode("x86-64-v3", AsBytes(code));
  return Artifact::FromBytes(writer.Finish());
}

TEST(Merge, LosesNothing) {
  Artifact first = Artifact::FromBytes(SampleWriter().Finish());
  Manifest other = SampleDescription();
  other.purpose.targets = {"x86-64-v4+avx512bf16"};
  other.purpose.prefill_lengths = {512};
  other.purpose.decode_length = 256;
  other.makers.versions["cuda"] = "13";
  other.makers.toolchains = {"clang version 14"};
  Artifact second = Make(other, "record", "more code");
  Artifact merged = Artifact::FromBytes(Merge(first, second).Finish());
  EXPECT_EQ(merged.manifest().entries.size(), 5u);
  for (Artifact* source : {&first, &second}) {
    for (const ManifestEntry& entry : source->manifest().entries) {
      const auto bytes = merged.Get(entry.kind, entry.name);
      ASSERT_TRUE(bytes);
      EXPECT_EQ(bytes->text(), source->Get(entry.kind, entry.name)->text());
    }
  }
  EXPECT_EQ(merged.manifest().purpose.targets.size(), 3u);
  EXPECT_EQ(merged.manifest().purpose.prefill_lengths, (std::vector<int64_t>{128, 256, 512}));
  EXPECT_EQ(merged.manifest().purpose.decode_length, 256);
  EXPECT_EQ(merged.manifest().makers.versions.at("cuda"), "13");
  EXPECT_EQ(merged.manifest().makers.toolchains.size(), 2u);
}

TEST(Merge, WithItselfChangesNothing) {
  Artifact first = Artifact::FromBytes(SampleWriter().Finish());
  Artifact second = Artifact::FromBytes(SampleWriter().Finish());
  EXPECT_EQ(Merge(first, second).Finish(), SampleWriter().Finish());
}

TEST(Merge, OtherBytesUnderOneKeyFollowTheRule) {
  Artifact first = Make(SampleDescription(), "old", "code");
  Artifact second = Make(SampleDescription(), "new", "code");
  try {
    Merge(first, second);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIncompatible);
    EXPECT_NE(error.message().find("tuning " + SampleKey("shared").name()), std::string::npos);
  }
  Artifact merged = Artifact::FromBytes(Merge(first, second, MergeRule::kPreferSecond).Finish());
  EXPECT_EQ(merged.Get(EntryKind::kTuning, SampleKey("shared").name())->text(), "new");
}

TEST(Merge, ArtifactsOfDifferentModelsOrVersionsAreRefusedByName) {
  const std::pair<const char*, void (*)(Manifest&)> changes[] = {
      {"model", [](Manifest& m) { m.model.config_hash = std::string(64, 'b'); }},
      {"dtype", [](Manifest& m) { m.purpose.dtype = "fp32"; }},
      {"mode", [](Manifest& m) { m.purpose.mode = "max-autotune"; }},
      {"batch size", [](Manifest& m) { m.purpose.batch_size = 2; }},
      {"version of abi", [](Manifest& m) { m.makers.versions["abi"] = "2"; }},
  };
  Artifact first = Make(SampleDescription(), "x", "code");
  for (const auto& [name, change] : changes) {
    Manifest other = SampleDescription();
    change(other);
    Artifact second = Make(other, "x", "code");
    try {
      Merge(first, second);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIncompatible);
      EXPECT_NE(error.message().find(name), std::string::npos) << error.message();
    }
  }
}

}  // namespace
}  // namespace preheat::artifact
