#include "sys/code_image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace preheat::sys {
namespace {

CodeImage Sample() {
  CodeImage image;
  image.target = "x86-64-v3";
  image.entries = {{"first", 0}, {"second", 3}};
  for (int i = 0; i < 7; ++i) image.body.push_back(static_cast<std::byte>(0x90 + i));
  return image;
}

TEST(CodeImage, ParseGivesBackWhatWasSerialized) {
  const CodeImage image = Sample();
  const std::vector<std::byte> bytes = SerializeCodeImage(image);
  const CodeImageView view = ParseCodeImage(bytes);
  EXPECT_EQ(view.target, "x86-64-v3");
  EXPECT_EQ(view.alignment, 64u);
  ASSERT_EQ(view.entries.size(), 2u);
  EXPECT_EQ(view.entries[1].name, "second");
  EXPECT_EQ(view.entries[1].offset, 3u);
  EXPECT_TRUE(std::equal(view.body.begin(), view.body.end(), image.body.begin(), image.body.end()));
}

TEST(CodeImage, EveryTruncationIsCorrupt) {
  const std::vector<std::byte> bytes = SerializeCodeImage(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(ParseCodeImage(std::span(bytes).first(size)), base::Error) << size;
  }
}

TEST(CodeImage, AFlippedBitIsRefusedOrStaysInBounds) {
  const std::vector<std::byte> bytes = SerializeCodeImage(Sample());
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::vector<std::byte> damaged = bytes;
    damaged[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    try {
      const CodeImageView view = ParseCodeImage(damaged);
      for (const auto& entry : view.entries) EXPECT_LT(entry.offset, view.body.size());
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kCorrupt);
    }
  }
}

TEST(CodeImage, AnEntryOutsideTheCodeIsCorrupt) {
  CodeImage image = Sample();
  image.entries[1].offset = 7;
  EXPECT_THROW(ParseCodeImage(SerializeCodeImage(image)), base::Error);
}

}  // namespace
}  // namespace preheat::sys
