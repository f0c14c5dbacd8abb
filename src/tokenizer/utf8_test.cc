#include "tokenizer/utf8.h"

#include <gtest/gtest.h>

namespace preheat::tokenizer {
namespace {

std::string Encode(uint32_t c) {
  if (c < 0x80) return {static_cast<char>(c)};
  if (c < 0x800) return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  if (c < 0x10000) {
    return {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  }
  return {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
          static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
}

TEST(Utf8, EveryCodePointIsComplete) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string text = Encode(c);
    const Utf8Step step = NextUtf8(text);
    ASSERT_EQ(step.status, Utf8Status::kComplete) << c;
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(step.bytes, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(NextUtf8(text.substr(0, cut)).status, Utf8Status::kIncomplete) << c;
    }
  }
}

// The examples of the Unicode Standard 15, tables 3-8 to 3-11.
TEST(Utf8, EachMaximalSubpartBecomesOneReplacement) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("12345678\xF0\x9F\x98"), "12345678" + r);
}

TEST(Utf8, ValidityLooksBehindLongAscii) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("0123456789 \xC3\xA9 0123456789"));
  EXPECT_FALSE(IsValidUtf8("0123456789 \xC3 0123456789"));
  EXPECT_FALSE(IsValidUtf8("0123456789 \xC3"));
}

TEST(Utf8, UndecidedBytesWait) {
  std::string pending = "a\xFF\xF0\x9F";
  std::string out;
  TakeDecidedUtf8(&pending, &out);
  EXPECT_EQ(out, "a" + std::string(kReplacementCharacter));
  EXPECT_EQ(pending, "\xF0\x9F");
}

TEST(Utf8, BlanksAreThoseOfPythonsStrip) {
  // [c for c in range(0x110000) if not chr(c).strip()]
  const std::vector<uint32_t> expected = {9,    10,   11,   12,   13,   28,   29,   30,   31,   32,
                                          133,  160,  5760, 8192, 8193, 8194, 8195, 8196, 8197, 8198,
                                          8199, 8200, 8201, 8202, 8232, 8233, 8239, 8287, 12288};
  std::vector<uint32_t> found;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (IsBlank(c)) found.push_back(c);
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(TrimBlanks(" \t\u3000a b\u00a0\n"), "a b");
  EXPECT_EQ(TrimBlanks(" \u2028 "), "");
  EXPECT_EQ(TrimBlanks("\u200bx\u200b"), "\u200bx\u200b");
}

}  // namespace
}  // namespace preheat::tokenizer
