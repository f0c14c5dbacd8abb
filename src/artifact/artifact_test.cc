#include "artifact/artifact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "artifact/artifact_for_test.h"
#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::artifact {
namespace {

using base::Error;
using base::ErrorKind;
using store::EntryKind;

// What opening these bytes says; fails the test where it succeeds.
Error OpenError(std::vector<std::byte> bytes) {
  try {
    Artifact artifact = Artifact::FromBytes(bytes);
    for (const auto& entry : artifact.manifest().entries) artifact.Get(entry.kind, entry.name);
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "opened";
  return Error(ErrorKind::kInvalidArgument, "");
}

TEST(Artifact, GivesBackWhatWasWritten) {
  Artifact artifact = Artifact::FromBytes(SampleWriter().Finish());
  EXPECT_EQ(artifact.Get(EntryKind::kProgram, SampleKey("x86-64-v3").name())->text(), kLongProgram);
  EXPECT_EQ(artifact.Get(EntryKind::kTuning, SampleKey("x86-64-v4").name())->text(), "");
  const std::string code = base::Sha256Hex(std::string_view("code that does not compress"));
  EXPECT_EQ(artifact.Get(EntryKind::kCode, code)->text(), "code that does not compress");
  EXPECT_FALSE(artifact.Get(EntryKind::kTuning, code));
  EXPECT_FALSE(artifact.Get(EntryKind::kCode, std::string(64, '0')));
  EXPECT_FALSE(artifact.signature());
  EXPECT_EQ(artifact.manifest().purpose.targets, (std::vector<std::string>{"x86-64-v3", "x86-64-v4"}));
}

TEST(Artifact, StaysValidWhenMoved) {
  Artifact first = Artifact::FromBytes(SampleWriter().Finish());
  Artifact second = std::move(first);
  EXPECT_EQ(second.Get(EntryKind::kProgram, SampleKey("x86-64-v3").name())->text(), kLongProgram);
  EXPECT_EQ(second.List(EntryKind::kCode).size(), 1u);
}

TEST(Artifact, WithoutEntriesIsFine) {
  Artifact artifact = Artifact::FromBytes(ArtifactWriter(SampleDescription()).Finish());
  EXPECT_TRUE(artifact.manifest().entries.empty());
}

TEST(Artifact, LongEntriesAreCompressedAndShortOnesAreNot) {
  const Artifact artifact = Artifact::FromBytes(SampleWriter().Finish());
  for (const ManifestEntry& entry : artifact.manifest().entries) {
    const bool is_long = entry.kind == EntryKind::kProgram;
    EXPECT_EQ(entry.encoding, is_long ? Encoding::kZstd : Encoding::kRaw);
    EXPECT_LT(entry.stored_size, 100u) << entry.name;
  }
}

TEST(Artifact, EqualContentIsEqualBytesInAnyOrder) {
  ArtifactWriter other(SampleDescription());
  other.Add(EntryKind::kTuning, SampleKey("x86-64-v4"), "", "");
  other.Add(EntryKind::kProgram, SampleKey("x86-64-v3"), "x86-64-v3", kLongProgram);
  other.AddCode("x86-64-v3", AsBytes("code that does not compress"));
  other.AddCode("x86-64-v3", AsBytes("code that does not compress"));
  EXPECT_EQ(other.Finish(), SampleWriter().Finish());
}

TEST(Artifact, PackedBytesAreWrittenAsPlainOnesAre) {
  const store::Key key = SampleKey("x86-64-v4");
  for (const std::string& text : {std::string(kLongProgram), std::string("short")}) {
    ArtifactWriter packed = SampleWriter(), plain = SampleWriter();
    packed.Add(EntryKind::kTokenizer, key, "", Pack(text));
    packed.Add(EntryKind::kTokenizer, key, "", text);
    plain.Add(EntryKind::kTokenizer, key, "", text);
    EXPECT_EQ(packed.Finish(), plain.Finish());
    EXPECT_THROW(packed.Add(EntryKind::kTokenizer, key, "", Pack(std::string_view("other"))), Error);
  }
}

TEST(Artifact, LongEntriesAreTheSameBytesInAnyOrder) {
  const auto written = [](bool backwards) {
    ArtifactWriter writer(SampleDescription());
    for (int i = 0; i < 6; ++i) {
      const int n = backwards ? 5 - i : i;
      std::string text;
      while (text.size() < size_t{20000} << n) text += std::to_string((text.size() * 7919) >> (n + 3));
      writer.AddCode("x86-64-v3", AsBytes(text));
    }
    return writer.Finish();
  };
  EXPECT_EQ(written(false), written(true));
}

TEST(Artifact, OtherBytesUnderTheSameKeyAreRefused) {
  ArtifactWriter writer = SampleWriter();
  EXPECT_THROW(writer.Add(EntryKind::kTuning, SampleKey("x86-64-v4"), "", "other"), Error);
}

TEST(Artifact, TextThatIsNotUtf8IsRefused) {
  Manifest description = SampleDescription();
  description.notes["x"] = "\xff";
  EXPECT_THROW(ArtifactWriter(description).Finish(), Error);
}

TEST(Artifact, EveryFlippedByteIsFound) {
  const std::vector<std::byte> good = SampleWriter().Finish();
  for (size_t i = 0; i < good.size(); ++i) {
    for (const int flip : {0x01, 0x80}) {
      std::vector<std::byte> bytes = good;
      bytes[i] ^= static_cast<std::byte>(flip);
      const Error error = OpenError(std::move(bytes));
      const bool version = i >= kVersionAt && i < kFlagsAt;
      EXPECT_EQ(error.kind(), version ? ErrorKind::kIncompatible : ErrorKind::kCorrupt) << i;
    }
  }
}

TEST(Artifact, EveryCutAndEveryAppendedByteIsFound) {
  const std::vector<std::byte> good = SampleWriter().Finish();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(OpenError({good.begin(), good.begin() + static_cast<ptrdiff_t>(size)}).kind(),
              ErrorKind::kCorrupt);
  }
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  EXPECT_EQ(OpenError(longer).kind(), ErrorKind::kCorrupt);
}

TEST(Artifact, RandomDamageNeverOpensAndNeverReadsOutOfBounds) {
  const std::vector<std::byte> good = SampleWriter().Finish();
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> bytes = good;
    const size_t at = random() % bytes.size();
    const size_t length = std::min<size_t>(1 + random() % 64, bytes.size() - at);
    switch (random() % 3) {
      case 0:
        for (size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<std::byte>(random());
        break;
      case 1:
        bytes.erase(bytes.begin() + static_cast<ptrdiff_t>(at),
                    bytes.begin() + static_cast<ptrdiff_t>(at + length));
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(at), length, static_cast<std::byte>(random()));
    }
    if (bytes == good) continue;
    OpenError(std::move(bytes));
  }
}

TEST(Artifact, ANewerFormatIsIncompatibleAndSaysSo) {
  std::vector<std::byte> bytes = SampleWriter().Finish();
  bytes[kVersionAt] = std::byte{2};
  const Error error = OpenError(bytes);
  EXPECT_EQ(error.kind(), ErrorKind::kIncompatible);
  EXPECT_NE(error.message().find("format version 2"), std::string::npos);
}

TEST(Artifact, AnotherFileIsNoArtifact) {
  EXPECT_NE(OpenError(std::vector<std::byte>(1000, std::byte{'x'})).message().find("no preheat artifact"),
            std::string::npos);
  EXPECT_NE(OpenError({}).message().find("no preheat artifact"), std::string::npos);
}

// A writer's lies: the manifest's hash fits, its claims do not.

Manifest TwoEntries(const std::string& payload) {
  Manifest manifest = SampleDescription();
  manifest.purpose.targets = {"x86-64-v3"};
  for (int i = 0; i < 2; ++i) {
    ManifestEntry& entry = manifest.entries.emplace_back();
    entry.kind = EntryKind::kTuning;
    entry.parts = {{"index", std::to_string(i)}};
    entry.name = store::KeyName(entry.parts);
    entry.offset = static_cast<uint64_t>(16 * i);
    entry.size = entry.stored_size = 16;
    entry.sha256 = base::Sha256Hex(payload.substr(entry.offset, 16));
  }
  std::ranges::sort(manifest.entries, {}, &ManifestEntry::name);
  return manifest;
}

TEST(Artifact, ClaimsOfTheManifestAreChecked) {
  const std::string payload = "0123456789abcdefghijklmnopqrstuv";
  EXPECT_NO_THROW(Artifact::FromBytes(Assemble(ManifestToJson(TwoEntries(payload)), payload)));
  struct Lie {
    const char* said;
    std::function<void(Manifest&)> tell;
  };
  const Lie lies[] = {
      {"overlaps", [](Manifest& m) { m.entries[0].offset = m.entries[1].offset; }},
      {"where none may begin", [](Manifest& m) { m.entries[m.entries[0].offset == 16 ? 0 : 1].offset = 24; }},
      {"past the end", [](Manifest& m) { m.entries[m.entries[0].offset == 16 ? 0 : 1].stored_size = 17; }},
      {"past the end",
       [](Manifest& m) { m.entries[m.entries[0].offset == 16 ? 0 : 1].stored_size = UINT64_MAX; }},
      {"where none may begin",
       [](Manifest& m) { m.entries[m.entries[0].offset == 16 ? 0 : 1].offset = UINT64_MAX; }},
      {"where none may begin",
       [](Manifest& m) { m.entries[m.entries[0].offset == 16 ? 0 : 1].offset = UINT64_MAX - 15; }},
      {"behind its last entry",
       [](Manifest& m) { m.entries.erase(m.entries.begin() + (m.entries[0].offset == 0)); }},
      {"hash does not match", [](Manifest& m) { m.entries[0].sha256 = std::string(64, '0'); }},
      {"two sizes", [](Manifest& m) { m.entries[0].size = 15; }},
      {"do not match its name", [](Manifest& m) { m.entries[0].parts[0].value += "x"; }},
      {"do not match its name", [](Manifest& m) { m.entries[0].kind = EntryKind::kCode; }},
      {"compressed size", [](Manifest& m) { m.entries[0].encoding = Encoding::kZstd; }},
      {"not in order", [](Manifest& m) { std::swap(m.entries[0], m.entries[1]); }},
  };
  for (const Lie& lie : lies) {
    Manifest manifest = TwoEntries(payload);
    lie.tell(manifest);
    const Error error = OpenError(Assemble(ManifestToJson(manifest), payload));
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_NE(error.message().find(lie.said), std::string::npos) << lie.said << " | " << error.message();
  }
}

TEST(Artifact, CodeThatIsNotWhatItsNameSaysIsRefused) {
  Manifest manifest = SampleDescription();
  ManifestEntry& entry = manifest.entries.emplace_back();
  entry.kind = EntryKind::kCode;
  entry.name = std::string(64, '7');
  entry.size = entry.stored_size = 4;
  entry.sha256 = base::Sha256Hex(std::string_view("code"));
  EXPECT_NE(OpenError(Assemble(ManifestToJson(manifest), "code")).message().find("named for"),
            std::string::npos);
}

TEST(Artifact, ADecompressionBombIsRefused) {
  // A zstd frame header that claims 2^40 bytes: magic, descriptor with 8-byte size, window, size.
  std::string frame("\x28\xb5\x2f\xfd\xc0\x00", 6);
  frame += std::string("\0\0\0\0\0\1\0\0", 8);
  Manifest manifest = SampleDescription();
  ManifestEntry& entry = manifest.entries.emplace_back();
  entry.kind = EntryKind::kTuning;
  entry.parts = {{"a", "b"}};
  entry.name = store::KeyName(entry.parts);
  entry.encoding = Encoding::kZstd;
  entry.size = uint64_t{1} << 40;
  entry.stored_size = frame.size();
  entry.sha256 = base::Sha256Hex(std::string_view(frame));
  EXPECT_EQ(OpenError(Assemble(ManifestToJson(manifest), frame)).kind(), ErrorKind::kCorrupt);
}

class ArtifactFile : public testing::Test {
 protected:
  sys::UniqueTempDir folder_{"artifact-test"};
  const std::string path_ = folder_.File("sub/model.bin");
};

TEST_F(ArtifactFile, OpensWhatWasWritten) {
  const uint64_t size = SampleWriter().WriteTo(path_);
  Artifact artifact = Artifact::Open(path_);
  EXPECT_EQ(artifact.size_bytes(), size);
  EXPECT_EQ(artifact.Get(EntryKind::kProgram, SampleKey("x86-64-v3").name())->text(), kLongProgram);
  EXPECT_EQ(sys::ListDir(folder_.File("sub")), std::vector<std::string>{"model.bin"});
}

TEST_F(ArtifactFile, TheManifestIsReadWithoutThePayload) {
  SampleWriter().WriteTo(path_);
  std::string bytes = sys::ReadFile(path_);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);  // damage in the payload goes unseen
  sys::WriteFileAtomic(path_, std::string_view(bytes));
  EXPECT_EQ(Artifact::ReadManifest(path_).model.id, "tiny-instruct");
  EXPECT_THROW(Artifact::Open(path_), Error);
  sys::WriteFileAtomic(path_, std::string_view(bytes).substr(0, bytes.size() - 1));
  EXPECT_THROW(Artifact::ReadManifest(path_), Error);
}

TEST_F(ArtifactFile, ATokenizersCheckMayWaitUntilItIsRead) {
  ArtifactWriter writer = SampleWriter();
  const store::Key key = SampleKey("tokenizer");
  writer.Add(EntryKind::kTokenizer, key, "", "tables that do not compress");
  writer.WriteTo(path_);
  const auto open = [&] { return Artifact::Open(path_, Artifact::Check::kAllButTokenizers); };
  EXPECT_EQ(open().Get(EntryKind::kTokenizer, key.name())->text(), "tables that do not compress");

  std::string bytes = sys::ReadFile(path_);
  bytes[bytes.find("tables that")] = 'T';
  sys::WriteFileAtomic(path_, std::string_view(bytes));
  EXPECT_THROW(Artifact::Open(path_), Error);
  Artifact artifact = open();
  EXPECT_EQ(artifact.Get(EntryKind::kProgram, SampleKey("x86-64-v3").name())->text(), kLongProgram);
  EXPECT_THROW(artifact.Get(EntryKind::kTokenizer, key.name()), Error);
}

TEST_F(ArtifactFile, ErrorsNameThePath) {
  for (const auto& open : {std::function<void()>([this] { Artifact::Open(path_); }),
                           std::function<void()>([this] { Artifact::ReadManifest(path_); })}) {
    try {
      open();
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
      EXPECT_TRUE(error.message().starts_with(path_)) << error.message();
    }
  }
  EXPECT_THROW(Artifact::Open(folder_.path()), Error);
}

}  // namespace
}  // namespace preheat::artifact
