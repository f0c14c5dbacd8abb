#include "tokenizer/token_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/error.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizers_for_test.h"

namespace preheat::tokenizer {
namespace {

using base::Error;
using base::ErrorKind;
using testing::HasSubstr;

using Header = TokenTable::Header;

TokenTable BuildFrom(const std::string& json) {
  return TokenTable::Build(ParseDefinition(json, "test"), "test");
}

void FixChecksum(std::string* image) {
  const uint64_t checksum = TokenTable::Checksum(*image);
  std::memcpy(image->data() + offsetof(Header, checksum), &checksum, sizeof(checksum));
}

void ExpectError(const std::string& image, ErrorKind kind, const std::string& part) {
  try {
    TokenTable::FromImage(image, "a.bin");
    ADD_FAILURE() << "accepted; expected: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(base::ErrorKindName(error.kind()), base::ErrorKindName(kind)) << error.message();
    EXPECT_THAT(error.message(), testing::StartsWith("a.bin: tokenizer tables"));
    EXPECT_THAT(error.message(), HasSubstr(part));
  }
}

TEST(TokenTable, FindsTokensMergesAndBytes) {
  const TokenTable table = BuildFrom(TestFile().Json());
  EXPECT_EQ(table.id_limit(), 261u);
  EXPECT_EQ(table.FindToken("abc"), 257u);
  EXPECT_EQ(table.FindToken("abcd"), TokenTable::kNoToken);
  EXPECT_EQ(table.FindToken("<s>"), TokenTable::kNoToken);
  EXPECT_EQ(table.TokenBytes(257), "abc");
  EXPECT_EQ(table.TokenBytes(259), "<s>");
  EXPECT_EQ(table.TokenBytes(261), "");
  for (int byte = 0; byte < 256; ++byte) EXPECT_EQ(table.ByteToken(static_cast<uint8_t>(byte)), byte);
  ASSERT_TRUE(table.FindMerge(256, 'c').has_value());
  EXPECT_EQ(table.FindMerge(256, 'c')->rank, 1u);
  EXPECT_EQ(table.FindMerge(256, 'c')->result, 257u);
  EXPECT_FALSE(table.FindMerge('c', 256).has_value());
}

TEST(TokenTable, IdsMayHaveHoles) {
  TestFile file;
  file.extra_vocabulary = R"(,"bc":300,"ab":270,"abc":280)";
  const TokenTable table = BuildFrom(file.Json());
  EXPECT_EQ(table.id_limit(), 301u);
  EXPECT_EQ(table.TokenBytes(270), "ab");
  EXPECT_EQ(table.TokenBytes(271), "");
  EXPECT_FALSE(table.IsPresent(271));
  EXPECT_EQ(table.FindMerge(270, 'c')->result, 280u);
}

TEST(TokenTable, APairThatStandsTwiceKeepsTheLaterRank) {
  TestFile file;
  file.merges = R"(["a b","ab c","b c","a b"])";
  EXPECT_EQ(BuildFrom(file.Json()).FindMerge('a', 'b')->rank, 3u);
}

// Hugging Face's ByteLevel decoder: a token with a character outside the byte alphabet stands for itself.
TEST(TokenTable, TokensOutsideTheByteAlphabetOnlyDecode) {
  TestFile file;
  file.extra_vocabulary += R"(,"日":261)";
  const TokenTable table = BuildFrom(file.Json());
  EXPECT_EQ(table.TokenBytes(261), "日");
  EXPECT_EQ(table.FindToken("日"), TokenTable::kNoToken);
}

TEST(TokenTable, AnImageIsUsedInPlaceAndAlwaysTheSame) {
  const std::string image = BuildFrom(TestFile().Json()).ToImage();
  EXPECT_EQ(image, BuildFrom(TestFile().Json()).ToImage());
  const TokenTable table = TokenTable::FromImage(image, "image");
  const char* bytes = table.TokenBytes(257).data();
  EXPECT_TRUE(bytes >= image.data() && bytes < image.data() + image.size());
  EXPECT_EQ(table.ToImage(), image);
}

TEST(TokenTable, AnUnalignedImageIsCopied) {
  const std::string image = BuildFrom(TestFile().Json()).ToImage();
  std::string shifted = image;
  shifted.insert(shifted.begin(), ' ');
  const TokenTable table = TokenTable::FromImage(std::string_view(shifted).substr(1), "image");
  EXPECT_EQ(table.FindToken("abc"), 257u);
  EXPECT_EQ(table.ToImage(), image);
}

TEST(TokenTable, EveryChangedByteIsCorrupt) {
  const std::string whole = BuildFrom(TestFile().Json()).ToImage();
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string image = whole;
    image[at] = static_cast<char>(image[at] ^ (1 << (at % 8)));
    try {
      TokenTable::FromImage(image, "a.bin");
      FAIL() << "byte " << at;
    } catch (const Error& error) {
      const bool version = at >= offsetof(Header, version) && at < offsetof(Header, header_bytes);
      EXPECT_TRUE(error.kind() == ErrorKind::kCorrupt ||
                  (version && error.kind() == ErrorKind::kIncompatible))
          << at;
    }
  }
}

TEST(TokenTable, ACutImageIsCorrupt) {
  const std::string whole = BuildFrom(TestFile().Json()).ToImage();
  for (size_t bytes = 0; bytes < whole.size(); bytes += bytes < 200 ? 1 : 41) {
    ExpectError(whole.substr(0, bytes), ErrorKind::kCorrupt, "");
  }
  ExpectError(whole + std::string(8, '\0'), ErrorKind::kCorrupt, "bytes, where");
  ExpectError("", ErrorKind::kCorrupt, "cut off after 0 bytes");
}

TEST(TokenTable, ANewerVersionIsIncompatible) {
  std::string image = BuildFrom(TestFile().Json()).ToImage();
  image[offsetof(Header, version)] = 2;
  ExpectError(image, ErrorKind::kIncompatible, "of version 2, this preheat reads up to 1");
}

// A checksum is no protection from malice: with it put right, damage must still never lead outside the image.
// What is accepted is used: encoding and decoding must come to an end, whatever the tables say.
TEST(TokenTable, DamageWithARightChecksumIsNeverDangerous) {
  for (const std::string& json : {TestFile().Json(), TinyInstructJson()}) {
    const std::string whole = BuildFrom(json).ToImage();
    std::mt19937 random(24);
    int refused = 0;
    for (int round = 0; round < 1500; ++round) {
      std::string image = whole;
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int i = 0; i < changes; ++i) {
        // Half of the damage goes to the header's counts, where most harm would come from.
        const size_t at = random() % 2 == 0 ? 32 + random() % 64 : random() % image.size();
        image[at] = random() % 4 == 0 ? '\xFF' : static_cast<char>(image[at] ^ (1u << random() % 8));
      }
      FixChecksum(&image);
      try {
        const Tokenizer tokenizer = Tokenizer::FromSerialized(image, "a.bin");
        const auto ids = tokenizer.Encode("abc <s><x> 12 the é日 thing", {.parse_special = true});
        tokenizer.Decode(ids);
        for (int32_t id = -1; id <= tokenizer.vocab_size(); id += 7) tokenizer.TokenBytes(id);
        tokenizer.TokenId("abc");
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(refused, 500);
  }
}

}  // namespace
}  // namespace preheat::tokenizer
