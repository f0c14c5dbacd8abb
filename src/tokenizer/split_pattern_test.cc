#include "tokenizer/split_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::tokenizer {
namespace {

using base::Error;
using base::ErrorKind;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> Pieces(std::string_view pattern, std::string_view text) {
  const SplitPattern compiled = SplitPattern::Compile(pattern);
  SplitMatcher matcher(compiled);
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const auto [begin, end] = matcher.Find(text, at);
    if (begin > at) pieces.emplace_back(text.substr(at, begin - at));
    if (end > begin) pieces.emplace_back(text.substr(begin, end - begin));
    at = end;
  }
  return pieces;
}

ErrorKind KindOf(std::string_view pattern) {
  try {
    SplitPattern::Compile(pattern);
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("split pattern"));
    return error.kind();
  }
  ADD_FAILURE() << pattern << " was accepted";
  return ErrorKind::kIo;
}

TEST(SplitPattern, CutsAsLlama3Does) {
  EXPECT_THAT(Pieces(kLlama3, "I'LL be  there, 12345 times!\n\n x"),
              ElementsAre("I", "'LL", " be", " ", " there", ",", " ", "123", "45", " times", "!\n\n", " x"));
}

TEST(SplitPattern, LongSFoldsToS) {
  EXPECT_THAT(Pieces(kLlama3, "a'\u017f"), ElementsAre("a", "'\u017f"));
}

TEST(SplitPattern, MongolianVowelSeparatorIsNoSpace) {
  EXPECT_THAT(Pieces(R"(\s+)", "a\u180eb\u3000c"), ElementsAre("a\u180eb", "\u3000", "c"));
  EXPECT_THAT(Pieces(R"([^\S]+)", "a\u180eb\u3000c"), ElementsAre("a\u180eb", "\u3000", "c"));
}

TEST(SplitPattern, ControlsKeepOnigurumasMeaning) {
  EXPECT_THAT(Pieces(R"(\v)", "a\vb\nc"), ElementsAre("a", "\v", "b\nc"));
  EXPECT_THAT(Pieces(R"(\d+)", "a\u0661b"), ElementsAre("a", "\u0661", "b"));
  EXPECT_THAT(Pieces(R"([\[\]]+)", "a[]b"), ElementsAre("a", "[]", "b"));
}

TEST(SplitPattern, WhatTheEnginesReadDifferentlyIsUnsupported) {
  for (const char* pattern :
       {R"(\w+)",     R"(\bx)",    R"(\h)",  R"(\X)",       R"(\Ax)", R"(\1)", R"(\x41)",
        R"(\u0041)",  "^a",        "a$",     "[[:alpha:]]", "[a&&b]", "[]a]",  "[^]a]",
        R"(\p{Han})", R"(\p{^L})", R"(\pL)", R"(\p{L)",     "a{2}+",  "a{,3}", "{",
        "(?<name>a)", "(?s:a)",    "(?i)a",  "(*UCP)a",     "a\\"}) {
    EXPECT_EQ(KindOf(pattern), ErrorKind::kUnsupported) << pattern;
  }
}

TEST(SplitPattern, OneThatMatchesNothingIsUnsupported) {
  EXPECT_EQ(KindOf("a*"), ErrorKind::kUnsupported);
}

TEST(SplitPattern, BrokenOnesAreCorrupt) {
  EXPECT_EQ(KindOf("(a"), ErrorKind::kCorrupt);
  EXPECT_EQ(KindOf("[a"), ErrorKind::kCorrupt);
}

TEST(SplitPattern, LongRunsOfOneClassDoNotFail) {
  const size_t length = 4'000'000;
  EXPECT_EQ(Pieces(kLlama3, std::string(length, 'a')).size(), 1u);
  EXPECT_EQ(Pieces(kLlama3, std::string(length, ' ')).size(), 1u);
  EXPECT_EQ(Pieces(kLlama3, std::string(length, '\n')).size(), 1u);
  EXPECT_EQ(Pieces(kLlama3, std::string(length, '!')).size(), 1u);
  EXPECT_EQ(Pieces(kLlama3, std::string(length, ' ') + "a").size(), 2u);
}

// Groups under repetition need stack for each turn: more than the JIT stack holds goes to the interpreter.
TEST(SplitPattern, DeepBacktrackingDoesNotFail) {
  const std::string text(2'000'000, 'a');
  EXPECT_EQ(Pieces(R"((?:\p{L}(?!1))+)", text).size(), 1u);
  EXPECT_EQ(Pieces(R"((?:\p{L}|b(?=c))+)", text).size(), 1u);
}

TEST(SplitPattern, RunawayBacktrackingEndsWithAnError) {
  try {
    Pieces("(?:a|aa)+[bc]", std::string(60, 'a'));
    FAIL() << "it ended";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), HasSubstr("gave up on 60 bytes"));
  }
}

}  // namespace
}  // namespace preheat::tokenizer
