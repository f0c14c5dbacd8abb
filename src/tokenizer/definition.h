// What a Hugging Face tokenizer.json says, as far as preheat understands it: byte-level BPE with split
// patterns, added tokens and a BOS template. Everything else in the file is either without effect here
// (truncation, padding, trim_offsets) or an Unsupported error that names its field. The file is read once, by
// a SAX parser, in place on a private copy: vocabulary and merges stay views into that copy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::tokenizer {

// A piece of Definition::buffer.
struct BufferSlice {
  uint32_t offset;
  uint32_t bytes;
};

struct Definition {
  struct VocabularyEntry {
    BufferSlice text;  // spelled in the byte alphabet
    uint32_t id;
  };
  struct Merge {
    BufferSlice left;
    BufferSlice right;
  };
  struct AddedToken {
    std::string content;  // plain text, valid UTF-8, not empty
    uint32_t id;
    bool special;
    bool normalized;  // looked for after the tokens that are not
  };

  std::string_view Text(BufferSlice slice) const { return {buffer.data() + slice.offset, slice.bytes}; }

  std::vector<char> buffer;
  std::vector<VocabularyEntry> vocabulary;  // in the file's order
  std::vector<Merge> merges;                // by rank
  std::vector<AddedToken> added;
  // Split patterns as the file spells them (Oniguruma's syntax), applied one after the other: each cuts the
  // pieces that the one before left.
  std::vector<std::string> patterns;
  bool ignore_merges = false;  // a piece that is in the vocabulary as a whole is not merged
  std::optional<uint32_t> bos_id;
};

// `source_name` stands before every error message. Throws Corrupt (malformed) or Unsupported (names the
// field).
Definition ParseDefinition(std::string_view tokenizer_json, std::string_view source_name);

}  // namespace preheat::tokenizer
