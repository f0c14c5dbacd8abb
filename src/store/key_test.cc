#include "store/key.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::store {
namespace {

Key Sample() {
  return KeyBuilder().Add("target", "x86-64-v3").Add("abi", 1).Add("dtype", "bf16").Build();
}

TEST(Key, EqualPartsHaveEqualNames) {
  EXPECT_EQ(Sample().name(), Sample().name());
}

TEST(Key, TheNameIsPartOfTheFormatAndMustNotChange) {
  EXPECT_EQ(PartsText(Sample().parts()), "target 9:x86-64-v3\nabi 1:1\ndtype 4:bf16\n");
  EXPECT_EQ(Sample().name(), KeyName(Sample().parts()));
  EXPECT_EQ(Sample().name().size(), 64u);
}

TEST(Key, AValueCannotPretendToBeAnotherPart) {
  const Key one = KeyBuilder().Add("a", "1\nb 1:2").Build();
  const Key two = KeyBuilder().Add("a", "1").Add("b", "2").Build();
  EXPECT_NE(one.name(), two.name());
}

TEST(Key, PartsTextParsesBack) {
  const Key key =
      KeyBuilder().Add("a", "").Add("b", std::string_view("x\0\n 3:y", 8)).Add("c-d.e_f", -7).Build();
  EXPECT_EQ(ParsePartsText(PartsText(key.parts())), key.parts());
  EXPECT_TRUE(ParsePartsText("").empty());
}

TEST(Key, TextThatIsNotCanonicalIsCorrupt) {
  for (const char* text :
       {"a", "a 1", "a 1:", "a 1:x", "a 2:x\n", "a 01:x\n", "A 1:x\n", " 1:x\n", "a -1:x\n", "a 1:x\na 1:y\n",
        "a 18446744073709551615:x\n", "a 99999999999999999999:x\n", "a :x\n"}) {
    EXPECT_THROW(ParsePartsText(text), base::Error) << text;
  }
}

TEST(Key, DifferingPartsNameBothSides) {
  const Key ours =
      KeyBuilder().Add("target", "x86-64-v3").Add("dtype", "bf16").Add("mode", "default").Build();
  const Key theirs = KeyBuilder().Add("target", "x86-64-v3").Add("dtype", "fp32").Add("abi", "2").Build();
  EXPECT_EQ(DescribeDifferences(DifferingParts(ours.parts(), theirs.parts())),
            "dtype: bf16 here, fp32 there; mode: default here, not there; abi: not here, 2 there");
  EXPECT_TRUE(DifferingParts(ours.parts(), ours.parts()).empty());
}

TEST(Key, AHashedPartStandsForItsContent) {
  const Key key = KeyBuilder().AddHashOf("source", "abc").Build();
  EXPECT_EQ(key.parts()[0].value, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Key, DescriptionEscapesControlCharacters) {
  EXPECT_EQ(DescribeParts({{"a", "x\x1b[2Jy\n"}}), "a = x\\x1b[2Jy\\x0a\n");
}

TEST(KeyDeathTest, ALabelTwiceIsOurBug) {
  EXPECT_DEATH(KeyBuilder().Add("a", "1").Add("a", "2"), "CHECK");
}

}  // namespace
}  // namespace preheat::store
