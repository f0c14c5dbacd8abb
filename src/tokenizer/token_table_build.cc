// From a Definition to an image. The costly part of reading a tokenizer.json after the JSON itself: 128,000
// strings to hash and, for each of 280,000 merges, three ids to find.
#include <algorithm>
#include <cstring>
#include <tuple>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/token_table.h"

namespace preheat::tokenizer {

using base::Error;
using base::ErrorKind;

class TokenTableBuilder {
 public:
  TokenTableBuilder(const Definition& definition, std::string_view source_name)
      : definition_(definition), source_name_(source_name) {}

  TokenTable Build() {
    AssignIds();
    Allocate();
    PlaceTokens();
    FindByteTokens();
    PlaceAdded();
    PlacePatterns();
    PlaceMerges();
    Finish();
    return std::move(table_);
  }

 private:
  // owner_ of an id: an entry of the vocabulary, or an added token that is not in it.
  static constexpr uint32_t kNobody = 0xFFFFFFFFu;
  static constexpr uint32_t kAddedBit = 0x80000000u;
  // Of ten slots seven are taken: most searches end within one cache line.
  static uint64_t SlotsFor(uint64_t entries) { return entries * 10 / 7 + 8; }

  template <typename... Args>
  Error Corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    return base::MakeError(ErrorKind::kCorrupt, "{}: {}; fetch the file again", source_name_,
                           fmt::format(format, std::forward<Args>(args)...));
  }

  void AssignIds() {
    uint32_t largest = 0;
    for (const auto& entry : definition_.vocabulary) largest = std::max(largest, entry.id);
    for (const auto& token : definition_.added) largest = std::max(largest, token.id);
    if (largest >= TokenTable::kMostIds) {
      throw base::MakeError(ErrorKind::kUnsupported, "{}: token id {}; ids below {} are supported",
                            source_name_, largest, TokenTable::kMostIds);
    }
    owner_.assign(largest + 1, kNobody);
    for (uint32_t i = 0; i < definition_.vocabulary.size(); ++i) {
      uint32_t& owner = owner_[definition_.vocabulary[i].id];
      if (owner != kNobody) throw Corrupt("model.vocab: id {} stands twice", definition_.vocabulary[i].id);
      owner = i;
    }
    for (uint32_t i = 0; i < definition_.added.size(); ++i) {
      const auto& token = definition_.added[i];
      uint32_t& owner = owner_[token.id];
      if (owner == kNobody) {
        owner = i | kAddedBit;
      } else if ((owner & kAddedBit) != 0) {
        throw Corrupt("added_tokens: id {} stands twice", token.id);
      } else if (definition_.Text(definition_.vocabulary[owner].text) != token.content) {
        throw Corrupt("added_tokens: id {} is \"{}\", but in model.vocab it is another token", token.id,
                      token.content);
      }
    }
  }

  void Allocate() {
    uint64_t arena_bytes = 0;
    uint64_t text_bytes = 0;
    for (const auto& entry : definition_.vocabulary) arena_bytes += entry.text.bytes;
    for (const auto& token : definition_.added) text_bytes += token.content.size();
    arena_bytes += text_bytes;
    for (const auto& pattern : definition_.patterns) text_bytes += pattern.size();

    TokenTable::Header header{};
    std::memcpy(header.magic, "PHTOKENS", sizeof(header.magic));
    header.version = 1;
    header.header_bytes = sizeof(header);
    header.id_limit = static_cast<uint32_t>(owner_.size());
    header.bos_id = definition_.bos_id.value_or(TokenTable::kNoToken);
    header.ignore_merges = definition_.ignore_merges ? 1 : 0;
    // A file has at most 2^30 bytes and an entry takes several: everything fits 32 bits.
    header.merge_slots = static_cast<uint32_t>(SlotsFor(definition_.merges.size()));
    header.vocabulary_slots = static_cast<uint32_t>(SlotsFor(definition_.vocabulary.size()));
    header.added_count = static_cast<uint32_t>(definition_.added.size());
    header.pattern_count = static_cast<uint32_t>(definition_.patterns.size());
    header.text_bytes = static_cast<uint32_t>(text_bytes);
    header.arena_bytes = static_cast<uint32_t>(arena_bytes);
    if (header.bos_id != TokenTable::kNoToken &&
        (header.bos_id >= header.id_limit || owner_[header.bos_id] == kNobody)) {
      throw Corrupt("post_processor: id {} is no token", header.bos_id);
    }

    table_.storage_.resize(table_.LayOut(nullptr, header) / 8);
    header_ = reinterpret_cast<TokenTable::Header*>(table_.storage_.data());
    *header_ = header;
    table_.LayOut(reinterpret_cast<const std::byte*>(table_.storage_.data()), header);
  }

  // The table's sections are const to everyone else; storage_ is the builder's to write.
  template <typename T>
  static T* Writable(const T* section) {
    return const_cast<T*>(section);
  }

  void PlaceTokens() {
    auto* offsets = Writable(table_.token_offsets_);
    auto* flags = Writable(table_.token_flags_);
    char* arena = Writable(table_.arena_);
    uint32_t at = 0;
    for (uint32_t id = 0; id < owner_.size(); ++id) {
      offsets[id] = offsets[id + 1] = at;
      const uint32_t owner = owner_[id];
      if (owner == kNobody) continue;
      flags[id] = TokenTable::kPresent;
      const bool added = (owner & kAddedBit) != 0;
      const std::string_view spelled = added ? std::string_view(definition_.added[owner & ~kAddedBit].content)
                                             : definition_.Text(definition_.vocabulary[owner].text);
      int bytes = DecodeByteAlphabet(spelled, arena + at);
      const bool spells_bytes = bytes >= 0;
      // Hugging Face's ByteLevel decoder takes a token with any other character as it is written.
      if (!spells_bytes) {
        bytes = static_cast<int>(spelled.size());
        std::memcpy(arena + at, spelled.data(), spelled.size());
      }
      at += static_cast<uint32_t>(bytes);
      offsets[id + 1] = at;
      // Such a token, and an empty one, never comes out of BPE; nor does one that the model does not have.
      if (!added && spells_bytes && bytes > 0) Insert(id, table_.TokenBytes(id));
    }
    header_->arena_bytes = at;
  }

  void Insert(uint32_t id, std::string_view bytes) {
    auto* slots = Writable(table_.vocabulary_slots_);
    const uint64_t hash = HashBytes(bytes);
    const uint64_t tag = hash & 0xFFFFFFFFu;
    uint32_t slot = FirstSlot(hash, header_->vocabulary_slots);
    while (slots[slot] != 0) {
      const auto other = static_cast<uint32_t>(slots[slot]) - 1;
      if (slots[slot] >> 32 == tag && table_.TokenBytes(other) == bytes) {
        throw Corrupt("model.vocab: ids {} and {} are the same token", other, id);
      }
      slot = slot + 1 == header_->vocabulary_slots ? 0 : slot + 1;
    }
    slots[slot] = tag << 32 | (id + 1);
    ++header_->vocabulary_count;
  }

  void FindByteTokens() {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      const uint32_t id = table_.FindToken({&c, 1});
      const bool needed = byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
      if (id == TokenTable::kNoToken && needed) {
        throw base::MakeError(
            ErrorKind::kUnsupported,
            "{}: model.vocab has no token for byte 0x{:02X}; a byte-level vocabulary has all bytes",
            source_name_, byte);
      }
      Writable(table_.byte_ids_)[byte] = id;
    }
  }

  uint32_t AppendText(std::string_view text) {
    const uint32_t offset = text_at_;
    std::memcpy(Writable(table_.text_) + offset, text.data(), text.size());
    text_at_ += static_cast<uint32_t>(text.size());
    return offset;
  }

  void PlaceAdded() {
    std::vector<const Definition::AddedToken*> sorted;
    for (const auto& token : definition_.added) sorted.push_back(&token);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
      return std::tie(a->normalized, a->content) < std::tie(b->normalized, b->content);
    });
    std::string bytes;
    for (uint32_t i = 0; i < sorted.size(); ++i) {
      const auto& token = *sorted[i];
      if (i > 0 && sorted[i - 1]->content == token.content) {
        throw Corrupt("added_tokens: \"{}\" stands twice", token.content);
      }
      bytes.resize(token.content.size());
      const int count = DecodeByteAlphabet(token.content, bytes.data());
      const uint32_t in_model =
          count < 0 ? TokenTable::kNoToken : table_.FindToken({bytes.data(), static_cast<size_t>(count)});
      if (in_model != TokenTable::kNoToken && in_model != token.id) {
        throw Corrupt("added_tokens: \"{}\" is id {}, but in model.vocab it is {}", token.content, token.id,
                      in_model);
      }
      Writable(table_.added_)[i] = {token.id, AppendText(token.content),
                                    static_cast<uint32_t>(token.content.size()), token.special ? 1u : 0u};
      if (token.special) Writable(table_.token_flags_)[token.id] |= TokenTable::kSpecial;
      if (!token.normalized) ++header_->added_first_count;
    }
  }

  void PlacePatterns() {
    for (uint32_t i = 0; i < definition_.patterns.size(); ++i) {
      const std::string& pattern = definition_.patterns[i];
      Writable(table_.patterns_)[i] = {AppendText(pattern), static_cast<uint32_t>(pattern.size())};
    }
  }

  // A string whose token is wanted, in scratch_.
  struct Query {
    size_t begin;
    size_t bytes;
    uint64_t hash;
    uint32_t id;
  };
  struct MergeQueries {
    Query left;
    Query right;
    Query result;
  };

  // The lookups miss the processor's caches again and again, so a block of them is taken step by step, each
  // step asking for the memory that the next one reads: a third of the time of one after the other.
  void PlaceMerges() {
    constexpr uint32_t kBlock = 64;
    std::vector<MergeQueries> queries(kBlock);
    const auto count = static_cast<uint32_t>(definition_.merges.size());
    for (uint32_t first = 0; first < count; first += kBlock) {
      const std::span<MergeQueries> block(queries.data(), std::min(kBlock, count - first));
      scratch_.clear();
      for (uint32_t i = 0; i < block.size(); ++i) block[i] = MakeQueries(first + i);
      const auto each_query = [&](auto&& step) {
        for (auto& merge : block) {
          for (Query* query : {&merge.left, &merge.right, &merge.result}) step(*query);
        }
      };
      each_query([&](Query& query) {
        query.hash = HashBytes(Text(query));
        __builtin_prefetch(&table_.vocabulary_slots_[FirstSlot(query.hash, header_->vocabulary_slots)]);
      });
      each_query([&](Query& query) {
        query.id = LikelyToken(query.hash);
        __builtin_prefetch(&table_.token_offsets_[query.id]);
      });
      each_query([&](Query& query) { __builtin_prefetch(table_.arena_ + table_.token_offsets_[query.id]); });
      each_query([&](Query& query) { query.id = table_.FindToken(Text(query), query.hash); });
      for (const auto& [left, right, result] : block) {
        __builtin_prefetch(&table_.merge_keys_[MergeSlot(MergePair(left.id, right.id))]);
        __builtin_prefetch(&table_.merge_ranks_[MergeSlot(MergePair(left.id, right.id))]);
      }
      for (uint32_t i = 0; i < block.size(); ++i) PlaceMerge(block[i], first + i);
    }
  }

  std::string_view Text(const Query& query) const { return {scratch_.data() + query.begin, query.bytes}; }
  uint32_t MergeSlot(uint64_t pair) const { return FirstSlot(HashPair(pair), header_->merge_slots); }

  // Appends both sides of a merge to scratch_: together they are the result.
  MergeQueries MakeQueries(uint32_t rank) {
    const auto& merge = definition_.merges[rank];
    const size_t begin = scratch_.size();
    scratch_.resize(begin + merge.left.bytes + merge.right.bytes);
    const int left = DecodeByteAlphabet(definition_.Text(merge.left), scratch_.data() + begin);
    const int right =
        left < 0 ? -1 : DecodeByteAlphabet(definition_.Text(merge.right), scratch_.data() + begin + left);
    if (right < 0) throw Corrupt("model.merges[{}]: a character outside the byte alphabet", rank);
    const auto left_bytes = static_cast<size_t>(left);
    const auto right_bytes = static_cast<size_t>(right);
    return {{begin, left_bytes, 0, 0},
            {begin + left_bytes, right_bytes, 0, 0},
            {begin, left_bytes + right_bytes, 0, 0}};
  }

  // The first entry whose tag fits: almost always the token, if there is one. Otherwise any id.
  uint32_t LikelyToken(uint64_t hash) const {
    uint32_t slot = FirstSlot(hash, header_->vocabulary_slots);
    while (true) {
      const uint64_t entry = table_.vocabulary_slots_[slot];
      if (entry == 0) return 0;
      if (entry >> 32 == (hash & 0xFFFFFFFFu)) return static_cast<uint32_t>(entry) - 1;
      slot = slot + 1 == header_->vocabulary_slots ? 0 : slot + 1;
    }
  }

  // A pair that stands twice keeps the later rank, as in Hugging Face's map.
  void PlaceMerge(const MergeQueries& merge, uint32_t rank) {
    const auto& [left, right, result] = merge;
    if (left.id == TokenTable::kNoToken || right.id == TokenTable::kNoToken ||
        result.id == TokenTable::kNoToken) {
      throw Corrupt("model.merges[{}]: \"{}\" + \"{}\" is not of tokens in model.vocab", rank,
                    definition_.Text(definition_.merges[rank].left),
                    definition_.Text(definition_.merges[rank].right));
    }
    auto* keys = Writable(table_.merge_keys_);
    const uint64_t pair = MergePair(left.id, right.id);
    uint32_t slot = MergeSlot(pair);
    while (keys[slot] != 0 && keys[slot] != (pair | result.id)) {
      slot = slot + 1 == header_->merge_slots ? 0 : slot + 1;
    }
    if (keys[slot] == 0) ++header_->merge_count;
    keys[slot] = pair | result.id;
    Writable(table_.merge_ranks_)[slot] = rank;
  }

  // The arena came out shorter than allowed for (two bytes of spelling are often one byte).
  void Finish() {
    const uint64_t bytes = table_.LayOut(table_.image_, *header_);
    header_->image_bytes = bytes;
    table_.storage_.resize(bytes / 8);
  }

  const Definition& definition_;
  std::string_view source_name_;
  std::vector<uint32_t> owner_;  // by id
  std::string scratch_;          // a block's merges as bytes
  uint32_t text_at_ = 0;
  TokenTable table_;
  TokenTable::Header* header_ = nullptr;
};

TokenTable TokenTable::Build(const Definition& definition, std::string_view source_name) {
  return TokenTableBuilder(definition, source_name).Build();
}

}  // namespace preheat::tokenizer
