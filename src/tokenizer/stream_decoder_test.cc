#include "tokenizer/stream_decoder.h"

#include <gtest/gtest.h>

#include <random>

#include "tokenizer/tokenizers_for_test.h"
#include "tokenizer/utf8.h"

namespace preheat::tokenizer {
namespace {

class StreamDecoderTest : public testing::Test {
 protected:
  // Ids 0..255 are the bytes: any byte string can come token by token.
  const Tokenizer tokenizer_ = Tokenizer::Parse(TestFile().Json(), "test");
};

TEST_F(StreamDecoderTest, HoldsACharacterBackUntilItIsWhole) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.Feed('a'), "a");
  EXPECT_EQ(decoder.Feed(0xF0), "");
  EXPECT_EQ(decoder.Feed(0x9F), "");
  EXPECT_EQ(decoder.Feed(0x98), "");
  EXPECT_EQ(decoder.Feed(0x80), "\U0001F600");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST_F(StreamDecoderTest, ACharacterCutOffAtTheEndIsReplaced) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.Feed(0xE3), "");
  EXPECT_EQ(decoder.Feed(0x81), "");
  EXPECT_EQ(decoder.Finish(), kReplacementCharacter);
  EXPECT_EQ(decoder.Finish(), "");
  EXPECT_EQ(decoder.Feed('x'), "x");
}

TEST_F(StreamDecoderTest, ACharacterCutOffByAnotherIsReplaced) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.Feed(0xE3), "");
  EXPECT_EQ(decoder.Feed('x'), std::string(kReplacementCharacter) + "x");
}

TEST_F(StreamDecoderTest, SpecialTokensAndUnknownIdsShowNothing) {
  StreamDecoder decoder(tokenizer_);
  EXPECT_EQ(decoder.Feed(259), "");
  EXPECT_EQ(decoder.Feed(260), "<x>");
  EXPECT_EQ(decoder.Feed(-1), "");
  EXPECT_EQ(decoder.Feed(1'000'000), "");
  StreamDecoder keeping(tokenizer_, {.skip_special = false});
  EXPECT_EQ(keeping.Feed(259), "<s>");
}

TEST_F(StreamDecoderTest, TrimmingHoldsTrailingBlanksBack) {
  StreamDecoder decoder(tokenizer_, {.trim_blanks = true});
  EXPECT_EQ(decoder.Feed('\n'), "");
  EXPECT_EQ(decoder.Feed(' '), "");
  EXPECT_EQ(decoder.Feed('a'), "a");
  EXPECT_EQ(decoder.Feed(' '), "");
  EXPECT_EQ(decoder.Feed('\n'), "");
  EXPECT_EQ(decoder.Feed('b'), " \nb");
  EXPECT_EQ(decoder.Feed(' '), "");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST_F(StreamDecoderTest, PiecesTogetherAreTheWhole) {
  std::mt19937 random(21);
  const std::string bytes = "ab \n\t\xC3\xA9\xE3\x81\x82\xF0\x9F\x98\x80\xE3\x80\x80\xFF";
  for (int round = 0; round < 20000; ++round) {
    std::vector<int32_t> ids(random() % 12);
    for (auto& id : ids) id = random() % 16 == 0 ? 259 : static_cast<uint8_t>(bytes[random() % bytes.size()]);
    for (const bool trim : {false, true}) {
      StreamDecoder decoder(tokenizer_, {.trim_blanks = trim});
      std::string together;
      for (const int32_t id : ids) {
        const std::string piece = decoder.Feed(id);
        ASSERT_TRUE(IsValidUtf8(piece));
        together += piece;
      }
      together += decoder.Finish();
      const std::string whole = tokenizer_.Decode(ids, {.skip_special = true});
      ASSERT_EQ(together, trim ? TrimBlanks(whole) : whole) << "round " << round;
    }
  }
}

}  // namespace
}  // namespace preheat::tokenizer
