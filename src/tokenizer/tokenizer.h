// Text to token ids and back, exactly as Hugging Face's tokenizers do it for byte-level BPE (Llama 3 and its
// kin), from a tokenizer.json or from the flat form that an artifact carries (token_table.h documents it).
//
// What differs by intention: special tokens in the text are plain text unless parse_special says otherwise;
// clean_up_tokenization_spaces, truncation and padding are not applied.
// Immutable: any number of threads may encode and decode with one Tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/split_pattern.h"
#include "tokenizer/token_table.h"

namespace preheat::tokenizer {

struct EncodeOptions {
  bool add_bos = true;         // where the tokenizer has a BOS template; chat templates write their own
  bool parse_special = false;  // "<|eot_id|>" in the text becomes the token: only for text we wrote ourselves
};

struct DecodeOptions {
  bool skip_special = false;
};

class Tokenizer {
 public:
  // The bytes of a tokenizer.json. `source_name` stands before error messages. Throws Corrupt (malformed) or
  // Unsupported (names the field).
  static Tokenizer Parse(std::string_view tokenizer_json, std::string_view source_name);
  // What Serialize returned, used in place: `bytes` must outlive the tokenizer and should be 8-byte aligned
  // (else it is copied). All of it is checked first. Throws Corrupt, Incompatible or Unsupported.
  static Tokenizer FromSerialized(std::string_view bytes, std::string_view source_name);

  // Position-independent, versioned, the same bytes for the same tokenizer.json; split patterns as text.
  std::string Serialize() const { return table_.ToImage(); }

  // Invalid UTF-8 is read as U+FFFD, as Python's errors="replace" does. Empty text gives BOS alone.
  // Throws InvalidArgument for texts of 2 GiB or more.
  std::vector<int32_t> Encode(std::string_view text, EncodeOptions options = {}) const;

  // Valid UTF-8: bytes that are none, also cut-off characters, become U+FFFD. Ids without a token give
  // nothing.
  std::string Decode(std::span<const int32_t> ids, DecodeOptions options = {}) const;

  // The bytes of one token, perhaps a part of a character; empty for ids without a token.
  std::string_view TokenBytes(int32_t id) const { return table_.TokenBytes(static_cast<uint32_t>(id)); }
  // One more than the largest id.
  int32_t vocab_size() const { return static_cast<int32_t>(table_.id_limit()); }
  bool HasToken(int32_t id) const { return table_.IsPresent(static_cast<uint32_t>(id)); }
  bool IsSpecial(int32_t id) const { return table_.IsSpecial(static_cast<uint32_t>(id)); }
  // The token whose text this is ("<|eot_id|>", " the"), added tokens first.
  std::optional<int32_t> TokenId(std::string_view text) const;
  // What Encode puts before the text; none where the post-processor adds nothing.
  std::optional<int32_t> bos_id() const;

 private:
  class Encoding;

  // Added tokens that are looked for together, with what makes looking quick.
  struct AddedPass {
    std::span<const TokenTable::AddedRecord> records;  // sorted by content
    std::array<bool, 256> starts{};                    // bytes that a record begins with
    bool all_special = true;
  };

  explicit Tokenizer(TokenTable table);
  AddedPass MakePass(bool normalized) const;

  TokenTable table_;
  std::vector<SplitPattern> patterns_;
  std::array<AddedPass, 2> passes_;
};

}  // namespace preheat::tokenizer
