#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/definition.h"
#include "tokenizer/utf8.h"

namespace preheat::tokenizer {

using base::Error;
using base::ErrorKind;
using base::MakeError;

namespace {

constexpr size_t kMostTextBytes = (size_t{1} << 31) - 1;  // BPE counts in 32 bits

}  // namespace

Tokenizer::Tokenizer(TokenTable table) : table_(std::move(table)) {
  for (const std::string_view pattern : table_.patterns())
    patterns_.push_back(SplitPattern::Compile(pattern));
  passes_ = {MakePass(false), MakePass(true)};
}

Tokenizer::AddedPass Tokenizer::MakePass(bool normalized) const {
  AddedPass pass;
  pass.records = table_.added(normalized);
  for (const auto& record : pass.records) {
    pass.starts[static_cast<uint8_t>(table_.AddedContent(record)[0])] = true;
    pass.all_special = pass.all_special && record.special != 0;
  }
  return pass;
}

Tokenizer Tokenizer::Parse(std::string_view tokenizer_json, std::string_view source_name) {
  const Definition definition = ParseDefinition(tokenizer_json, source_name);
  try {
    return Tokenizer(TokenTable::Build(definition, source_name));
  } catch (const Error& error) {
    // A split pattern's error does not know the file.
    if (error.message().starts_with("split pattern")) {
      throw error.WithContext(fmt::format("{}: pre_tokenizer", source_name));
    }
    throw;
  }
}

Tokenizer Tokenizer::FromSerialized(std::string_view bytes, std::string_view source_name) {
  TokenTable table = TokenTable::FromImage(bytes, source_name);
  try {
    return Tokenizer(std::move(table));
  } catch (const Error& error) {
    throw error.WithContext(source_name);
  }
}

// One call of Encode: the text goes through added tokens, then through the patterns one after the other, and
// each piece that is left through BPE.
class Tokenizer::Encoding {
 public:
  Encoding(const Tokenizer& tokenizer, EncodeOptions options, std::vector<int32_t>* ids)
      : tokenizer_(tokenizer), options_(options), ids_(ids), bpe_(tokenizer.table_) {
    for (const SplitPattern& pattern : tokenizer.patterns_) matchers_.emplace_back(pattern);
  }

  void Run(std::string_view text) { FindAdded(0, text); }

 private:
  // Leftmost, then longest, without overlap: what Hugging Face's Aho-Corasick automaton finds. A special
  // token that is to stay text is found all the same, and what it covers is not searched again.
  void FindAdded(size_t pass_index, std::string_view text) {
    if (pass_index == tokenizer_.passes_.size()) return Split(0, text);
    const AddedPass& pass = tokenizer_.passes_[pass_index];
    if (pass.records.empty() || (pass.all_special && !options_.parse_special)) {
      return FindAdded(pass_index + 1, text);
    }
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
      const TokenTable::AddedRecord* record =
          pass.starts[static_cast<uint8_t>(text[at])] ? LongestAt(pass, text.substr(at)) : nullptr;
      if (record == nullptr) {
        ++at;
        continue;
      }
      const size_t begin = at;
      at += record->text_bytes;
      if (record->special != 0 && !options_.parse_special) continue;
      FindAdded(pass_index + 1, text.substr(done, begin - done));
      ids_->push_back(static_cast<int32_t>(record->id));
      done = at;
    }
    FindAdded(pass_index + 1, text.substr(done));
  }

  // The longest record that `text` begins with: narrows the sorted records byte by byte.
  const TokenTable::AddedRecord* LongestAt(const AddedPass& pass, std::string_view text) const {
    const TokenTable& table = tokenizer_.table_;
    const TokenTable::AddedRecord* longest = nullptr;
    auto first = pass.records.begin();
    auto last = pass.records.end();
    for (size_t depth = 0; depth < text.size() && first != last; ++depth) {
      const auto byte = static_cast<uint8_t>(text[depth]);
      // All from first to last share `depth` bytes; the one that ends there has been taken and stands first.
      if (table.AddedContent(*first).size() == depth) ++first;
      const auto byte_at = [&](const auto& record) {
        return static_cast<uint8_t>(table.AddedContent(record)[depth]);
      };
      first = std::partition_point(first, last, [&](const auto& record) { return byte_at(record) < byte; });
      last = std::partition_point(first, last, [&](const auto& record) { return byte_at(record) == byte; });
      if (first != last && table.AddedContent(*first).size() == depth + 1) longest = &*first;
    }
    return longest;
  }

  // Matches and what lies between them are pieces ("Isolated").
  void Split(size_t level, std::string_view text) {
    if (text.empty()) return;
    if (level == matchers_.size()) return bpe_.Append(text, ids_);
    for (size_t at = 0; at < text.size();) {
      const auto [begin, end] = matchers_[level].Find(text, at);
      if (begin > at) Split(level + 1, text.substr(at, begin - at));
      if (end > begin) Split(level + 1, text.substr(begin, end - begin));
      at = end;
    }
  }

  const Tokenizer& tokenizer_;
  const EncodeOptions options_;
  std::vector<int32_t>* ids_;
  std::vector<SplitMatcher> matchers_;
  BpeEncoder bpe_;
};

std::vector<int32_t> Tokenizer::Encode(std::string_view text, EncodeOptions options) const {
  // Replacing can make a byte three.
  if (text.size() > kMostTextBytes / 3) {
    throw MakeError(ErrorKind::kInvalidArgument, "encoding text: {} bytes; at most {} are possible",
                    text.size(), kMostTextBytes / 3);
  }
  std::vector<int32_t> ids;
  if (options.add_bos && bos_id()) ids.push_back(*bos_id());
  if (text.empty()) return ids;
  std::string repaired;
  if (!IsValidUtf8(text)) {
    repaired = ReplaceInvalidUtf8(text);
    text = repaired;
  }
  Encoding(*this, options, &ids).Run(text);
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, DecodeOptions options) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (options.skip_special && IsSpecial(id)) continue;
    bytes += TokenBytes(id);
  }
  return IsValidUtf8(bytes) ? bytes : ReplaceInvalidUtf8(bytes);
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view text) const {
  for (const bool normalized : {false, true}) {
    const auto records = table_.added(normalized);
    const auto found = std::lower_bound(
        records.begin(), records.end(), text,
        [&](const auto& record, const auto& key) { return table_.AddedContent(record) < key; });
    if (found != records.end() && table_.AddedContent(*found) == text) return static_cast<int32_t>(found->id);
  }
  const uint32_t id = table_.FindToken(text);
  return id == TokenTable::kNoToken ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

std::optional<int32_t> Tokenizer::bos_id() const {
  const auto id = table_.bos_id();
  return id ? std::optional(static_cast<int32_t>(*id)) : std::nullopt;
}

}  // namespace preheat::tokenizer
