#include "tokenizer/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace preheat::tokenizer {
namespace {

TEST(LoadTokenizer, ReadsAModelFolder) {
  EXPECT_EQ(LoadTokenizer(PREHEAT_SOURCE_DIR "/models/tiny-instruct").vocab_size(), 2048);
}

TEST(LoadTokenizer, AMissingFileIsNotFoundByName) {
  try {
    LoadTokenizer("/no/such/model");
    FAIL() << "it was found";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kNotFound);
    EXPECT_THAT(error.message(), testing::HasSubstr("/no/such/model/tokenizer.json"));
  }
}

}  // namespace
}  // namespace preheat::tokenizer
