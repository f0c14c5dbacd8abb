#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <random>

#include "tokenizer/tokenizers_for_test.h"

namespace preheat::tokenizer {
namespace {

// The definition, word for word.
std::vector<int32_t> Reference(const TokenTable& table, std::string_view piece) {
  std::vector<int32_t> ids;
  for (const char c : piece) ids.push_back(static_cast<int32_t>(table.ByteToken(static_cast<uint8_t>(c))));
  while (true) {
    std::optional<TokenTable::Merge> best;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto merge = table.FindMerge(ids[i], ids[i + 1]);
      if (merge && (!best || merge->rank < best->rank)) {
        best = merge;
        at = i;
      }
    }
    if (!best) return ids;
    ids[at] = static_cast<int32_t>(best->result);
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
}

TEST(Bpe, ShortAndLongPiecesFollowTheDefinition) {
  Definition definition = ParseDefinition(TinyInstructJson(), "tiny");
  definition.ignore_merges = false;
  const TokenTable table = TokenTable::Build(definition, "tiny");
  BpeEncoder encoder(table);
  std::mt19937 random(20);
  for (int round = 0; round < 4000; ++round) {
    const size_t length = 1 + random() % (round % 8 == 0 ? 200 : 40);
    std::string piece;
    while (piece.size() < length) {
      // Token texts make merges frequent; letters make them awkward.
      piece += random() % 2 == 0 ? std::string(table.TokenBytes(random() % 2000))
                                 : std::string(1, "thean  aeio"[random() % 11]);
    }
    std::vector<int32_t> ids;
    encoder.Append(piece, &ids);
    ASSERT_EQ(ids, Reference(table, piece)) << "round " << round << ": " << piece;
  }
}

TEST(Bpe, AWholePieceInTheVocabularyIsNotMergedWhereMergesAreIgnored) {
  // "bc" merges last, so that abc in pieces is ab + c; "xbc" has no merges at all.
  TestFile file;
  file.extra_vocabulary += R"(,"xbc":261)";
  const auto encode = [](const Definition& definition, std::string_view piece) {
    const TokenTable table = TokenTable::Build(definition, "test");
    std::vector<int32_t> ids;
    BpeEncoder(table).Append(piece, &ids);
    return ids;
  };
  Definition definition = ParseDefinition(file.Json(), "test");
  EXPECT_EQ(encode(definition, "xbc"), (std::vector<int32_t>{'x', 258}));
  EXPECT_EQ(encode(definition, "xabc"), (std::vector<int32_t>{'x', 257}));
  definition.ignore_merges = true;
  EXPECT_EQ(encode(definition, "xbc"), (std::vector<int32_t>{261}));
  EXPECT_EQ(encode(definition, "xxbc"), (std::vector<int32_t>{'x', 'x', 258}));
}

TEST(Bpe, AMillionEqualBytesAreMergedInOneGo) {
  const TokenTable table = TokenTable::Build(ParseDefinition(TinyInstructJson(), "tiny"), "tiny");
  for (const char c : {'a', ' ', '='}) {
    const std::string piece(1'000'000, c);
    std::vector<int32_t> ids;
    BpeEncoder(table).Append(piece, &ids);
    std::string back;
    for (const int32_t id : ids) back += table.TokenBytes(static_cast<uint32_t>(id));
    EXPECT_TRUE(back == piece) << c;
  }
}

}  // namespace
}  // namespace preheat::tokenizer
