// Everything a tokenizer looks up, in one flat piece of memory: the "image". The tables are used in place,
// whether the image was built from a tokenizer.json or comes mapped from a file; it holds no pointers.
//
// Format, version 1, little-endian, every section 8-byte aligned, in this order and without gaps but padding:
//   Header                                       see below; 96 bytes
//   u64 merge_keys[merge_slots]                  open addressing, linear probing; 0: empty, else
//                                                1 << 63 | left << 42 | right << 21 | result
//   u64 vocabulary_slots[vocabulary_slots]       the same; 0: empty, else (hash & 0xFFFFFFFF) << 32 | id + 1
//   u32 merge_ranks[merge_slots]                 beside merge_keys: the lower rank merges first
//   u32 byte_ids[256]                            the token of each single byte; 0xFFFFFFFF: none
//   u32 token_offsets[id_limit + 1]              token id's bytes are arena[offsets[id] .. offsets[id + 1])
//   AddedRecord added[added_count]               those not normalized first; each part sorted by content
//   TextRecord patterns[pattern_count]           split patterns in Oniguruma's spelling
//   u8 token_flags[id_limit]
//   u8 text[text_bytes]                          contents of added tokens and patterns
//   u8 arena[arena_bytes]                        what each token decodes to
//
// The checksum finds damage; it is not a signature. So an image is also checked to be safe to use, whatever
// its bytes: FromImage reads all of it once (about 7 MB for Llama 3's 128,256 tokens) and afterwards no
// lookup can leave it or run forever. Immutable: any number of threads may read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/definition.h"

namespace preheat::tokenizer {

class TokenTable {
 public:
  static constexpr uint32_t kNoToken = 0xFFFFFFFFu;
  // Ids take 21 bits in merge_keys.
  static constexpr uint32_t kMostIds = 1u << 21;

  enum TokenFlag : uint8_t { kPresent = 1, kSpecial = 2 };

  struct AddedRecord {
    uint32_t id;
    uint32_t text_offset;
    uint32_t text_bytes;
    uint32_t special;  // 0 or 1
  };
  struct Merge {
    uint32_t rank;
    uint32_t result;
  };

  // Throws Corrupt (ids, merges or added tokens that contradict each other) or Unsupported (too many ids,
  // bytes without a token).
  static TokenTable Build(const Definition& definition, std::string_view source_name);
  // Uses `image` in place: it must outlive the table. Throws Corrupt, or Incompatible for a newer version.
  // A copy is made only where `image` is not 8-byte aligned.
  static TokenTable FromImage(std::string_view image, std::string_view source_name);

  TokenTable(TokenTable&&) noexcept = default;
  TokenTable& operator=(TokenTable&&) noexcept = default;

  // The image with its checksum filled in.
  std::string ToImage() const;

  // One more than the largest id.
  uint32_t id_limit() const { return header().id_limit; }
  bool ignore_merges() const { return header().ignore_merges != 0; }
  std::optional<uint32_t> bos_id() const;
  bool IsPresent(uint32_t id) const { return id < id_limit() && (token_flags_[id] & kPresent) != 0; }
  bool IsSpecial(uint32_t id) const { return id < id_limit() && (token_flags_[id] & kSpecial) != 0; }
  // What the token decodes to; empty for ids that have none.
  std::string_view TokenBytes(uint32_t id) const {
    if (id >= id_limit()) return {};
    return {arena_ + token_offsets_[id], token_offsets_[id + 1] - token_offsets_[id]};
  }
  // The token of one byte; kNoToken for the bytes that never occur in UTF-8, where they have none.
  uint32_t ByteToken(uint8_t byte) const { return byte_ids_[byte]; }
  // The model's own token with exactly these bytes (added tokens only where they stand in the vocabulary).
  uint32_t FindToken(std::string_view bytes) const;
  // The same where HashBytes(bytes) is known.
  uint32_t FindToken(std::string_view bytes, uint64_t hash) const;
  std::optional<Merge> FindMerge(uint32_t left, uint32_t right) const;
  // Sorted by content. The normalized ones are looked for in what the others left.
  std::span<const AddedRecord> added(bool normalized) const;
  std::string_view AddedContent(const AddedRecord& record) const {
    return {text_ + record.text_offset, record.text_bytes};
  }
  std::vector<std::string_view> patterns() const;

  struct Header {
    char magic[8];          // "PHTOKENS"
    uint32_t version;       // 1
    uint32_t header_bytes;  // sizeof(Header)
    uint64_t image_bytes;
    uint64_t checksum;  // of every byte behind this field: Checksum()
    uint32_t id_limit;
    uint32_t bos_id;         // kNoToken: none
    uint32_t ignore_merges;  // 0 or 1
    uint32_t merge_slots;
    uint32_t merge_count;
    uint32_t vocabulary_slots;
    uint32_t vocabulary_count;
    uint32_t added_count;
    uint32_t added_first_count;  // those that are not normalized
    uint32_t pattern_count;
    uint32_t text_bytes;
    uint32_t arena_bytes;
    uint64_t reserved[2];  // 0
  };
  static_assert(sizeof(Header) == 96);

  // Of a whole image. Four lanes of h = (h ^ word) * odd: a change in one word always shows.
  static uint64_t Checksum(std::string_view image);

 private:
  friend class TokenTableBuilder;
  struct TextRecord {
    uint32_t text_offset;
    uint32_t text_bytes;
  };

  TokenTable() = default;
  const Header& header() const { return *reinterpret_cast<const Header*>(image_); }
  // Points the members at the sections. Returns the image's size, which the sections' sizes decide.
  uint64_t LayOut(const std::byte* image, const Header& header);
  // An empty string when every lookup is safe, else what is wrong.
  std::string FindFault() const;

  std::vector<uint64_t> storage_;  // empty where the image belongs to someone else
  const std::byte* image_ = nullptr;
  const uint64_t* merge_keys_ = nullptr;
  const uint64_t* vocabulary_slots_ = nullptr;
  const uint32_t* merge_ranks_ = nullptr;
  const uint32_t* byte_ids_ = nullptr;
  const uint32_t* token_offsets_ = nullptr;
  const AddedRecord* added_ = nullptr;
  const TextRecord* patterns_ = nullptr;
  const uint8_t* token_flags_ = nullptr;
  const char* text_ = nullptr;
  const char* arena_ = nullptr;
};

// The tables' hash functions, shared by building and looking up. A slot is hash >> 32, scaled to the table.
uint64_t HashBytes(std::string_view bytes);
inline uint64_t MergePair(uint64_t left, uint64_t right) {
  return uint64_t{1} << 63 | left << 42 | right << 21;
}
inline uint64_t HashPair(uint64_t pair) {
  pair = (pair ^ (pair >> 31)) * 0x9E3779B97F4A7C15u;
  return (pair ^ (pair >> 29)) * 0xBF58476D1CE4E5B9u;
}
inline uint32_t FirstSlot(uint64_t hash, uint32_t slots) {
  return static_cast<uint32_t>(((hash >> 32) * slots) >> 32);
}

}  // namespace preheat::tokenizer
