#include <gtest/gtest.h>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"

namespace preheat::base {
namespace {

TEST(Error, ContextStandsBeforeTheMessage) {
  const Error error =
      MakeError(ErrorKind::kNotFound, "{}: no such file", "a.bin").WithContext("loading weights");
  EXPECT_EQ(error.message(), "loading weights: a.bin: no such file");
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
}

TEST(Error, EveryKindHasAName) {
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInterrupted); ++kind) {
    EXPECT_NE(ErrorKindName(static_cast<ErrorKind>(kind)), "Unknown");
  }
}

// FIPS 180-2, appendix B.
TEST(Hash, MatchesThePublishedVectors) {
  EXPECT_EQ(Sha256Hex(std::string_view("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(std::string_view("")),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Hash, PiecesHashLikeTheWhole) {
  const std::string text = "one piece and another";
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  Sha256Stream stream;
  stream.Update(bytes.first(9));
  stream.Update(bytes.subspan(9));
  EXPECT_EQ(ToHex(stream.Finish()), Sha256Hex(std::string_view(text)));
}

TEST(CheckDeathTest, SaysWhereAndWhat) {
  EXPECT_DEATH(CHECK(1 + 1 == 3), "1 \\+ 1 == 3");
}

}  // namespace
}  // namespace preheat::base
