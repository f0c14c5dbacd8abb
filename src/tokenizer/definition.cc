#include "tokenizer/definition.h"

#include <cstring>

#include "tokenizer/definition_json.h"
#include "tokenizer/utf8.h"

namespace preheat::tokenizer {
namespace {

using base::Error;
using base::ErrorKind;
using base::MakeError;

constexpr size_t kMostFileBytes = size_t{1}
                                  << 30;  // offsets into the buffer are 32 bits; real files have 20 MB
constexpr int kDeepest = 32;              // real files nest 6 deep; also bounds the parser's recursion
constexpr size_t kPadding = 64;           // the scanner reads whole 16-byte blocks

// Takes model.vocab and model.merges as they come and passes all else on to a document.
class Handler {
 public:
  Handler(Definition* definition, json::Document* rest) : definition_(definition), rest_(rest) {}

  const std::string& error() const { return error_; }

  bool Null() { return in_tables() ? Misfit() : rest_->Null(); }
  bool Bool(bool value) { return in_tables() ? Misfit() : rest_->Bool(value); }
  bool Int(int value) { return in_tables() ? Misfit() : rest_->Int(value); }
  bool Int64(int64_t value) { return in_tables() ? Misfit() : rest_->Int64(value); }
  bool Uint64(uint64_t value) { return in_tables() ? Misfit() : rest_->Uint64(value); }
  bool Double(double value) { return in_tables() ? Misfit() : rest_->Double(value); }
  bool RawNumber(const char*, json::SizeType, bool) { return Misfit(); }

  bool Uint(unsigned value) {
    if (!in_tables()) return rest_->Uint(value);
    if (table_ != Table::kVocabulary) return Misfit();
    definition_->vocabulary.push_back({key_, value});
    return true;
  }

  bool String(const char* text, json::SizeType bytes, bool) {
    if (!in_tables()) return rest_->String(text, bytes, false);
    if (table_ != Table::kMerges) return Misfit();
    if (in_pair_) return AddToPair(Slice(text, bytes));
    const auto* space = static_cast<const char*>(std::memchr(text, ' ', bytes));
    if (space == nullptr) return Misfit();
    const auto left_bytes = static_cast<json::SizeType>(space - text);
    const BufferSlice right = Slice(space + 1, bytes - left_bytes - 1);
    if (std::memchr(space + 1, ' ', right.bytes) != nullptr) return Misfit();
    definition_->merges.push_back({Slice(text, left_bytes), right});
    return true;
  }

  bool Key(const char* text, json::SizeType bytes, bool) {
    if (in_tables()) {
      key_ = Slice(text, bytes);
      return true;
    }
    const std::string_view name(text, bytes);
    if (depth_ == 1) in_model_ = name == "model";
    next_table_ = Table::kNone;
    if (depth_ == 2 && in_model_ && name == "vocab") next_table_ = Table::kVocabulary;
    if (depth_ == 2 && in_model_ && name == "merges") next_table_ = Table::kMerges;
    return rest_->Key(text, bytes, false);
  }

  bool StartObject() {
    if (in_tables() || !Deepen()) return Misfit();
    if (next_table_ == Table::kVocabulary && !Enter(&seen_vocabulary_)) return false;
    return rest_->StartObject();
  }

  bool EndObject(json::SizeType members) {
    --depth_;
    // The vocabulary itself ends here: to the document it is an empty object.
    if (in_tables()) members = 0;
    table_ = Table::kNone;
    return rest_->EndObject(members);
  }

  bool StartArray() {
    if (table_ == Table::kMerges && !in_pair_) {
      in_pair_ = true;
      pair_size_ = 0;
      return true;
    }
    if (in_tables() || !Deepen()) return Misfit();
    if (next_table_ == Table::kMerges && !Enter(&seen_merges_)) return false;
    return rest_->StartArray();
  }

  bool EndArray(json::SizeType elements) {
    if (in_pair_) {
      in_pair_ = false;
      if (pair_size_ != 2) return Misfit();
      definition_->merges.push_back({pair_[0], pair_[1]});
      return true;
    }
    --depth_;
    if (in_tables()) elements = 0;
    table_ = Table::kNone;
    return rest_->EndArray(elements);
  }

 private:
  enum class Table { kNone, kVocabulary, kMerges };

  bool in_tables() const { return table_ != Table::kNone; }

  BufferSlice Slice(const char* text, json::SizeType bytes) const {
    return {static_cast<uint32_t>(text - definition_->buffer.data()), bytes};
  }

  bool AddToPair(BufferSlice side) {
    if (pair_size_ == 2) return Misfit();
    pair_[pair_size_++] = side;
    return true;
  }

  bool Deepen() {
    if (++depth_ <= kDeepest) return true;
    error_ = "nested too deeply";
    return false;
  }

  bool Enter(bool* seen) {
    table_ = next_table_;
    next_table_ = Table::kNone;
    if (*seen) {
      error_ = table_ == Table::kVocabulary ? "model.vocab stands twice" : "model.merges stands twice";
      return false;
    }
    return *seen = true;
  }

  bool Misfit() {
    if (!error_.empty()) return false;
    switch (table_) {
      case Table::kVocabulary:
        error_ = "model.vocab: an id that is no number from 0 to 4294967295";
        break;
      case Table::kMerges:
        error_ = R"(model.merges: an entry that is neither "a b" nor ["a", "b"])";
        break;
      case Table::kNone:
        error_ = "a value that does not belong there";
        break;
    }
    return false;
  }

  Definition* definition_;
  json::Document* rest_;
  std::string error_;
  int depth_ = 0;
  bool in_model_ = false;
  Table table_ = Table::kNone;
  Table next_table_ = Table::kNone;
  bool seen_vocabulary_ = false;
  bool seen_merges_ = false;
  bool in_pair_ = false;
  int pair_size_ = 0;
  BufferSlice pair_[2] = {};
  BufferSlice key_ = {};
};

// Parses definition->buffer in place. The strings of `rest` are views into it.
void ParseInPlace(size_t file_bytes, std::string_view source_name, Definition* definition,
                  json::Document* rest) {
  constexpr std::string_view kAdvice = "fetch the file again";
  json::InsituStringStream stream(definition->buffer.data());
  json::Reader reader;
  Handler handler(definition, rest);
  auto parse = [&](json::Document&) {
    return !reader.Parse<json::kParseInsituFlag | json::kParseStopWhenDoneFlag>(stream, handler).IsError();
  };
  rest->Populate(parse);
  if (reader.HasParseError()) {
    const std::string reason =
        handler.error().empty() ? json::GetParseError_En(reader.GetParseErrorCode()) : handler.error();
    throw MakeError(ErrorKind::kCorrupt, "{}: not a tokenizer.json: at byte {}: {}; {}", source_name,
                    reader.GetErrorOffset(), reason, kAdvice);
  }
  // The parser takes a NUL byte for the end of the text; only the real end may follow.
  const std::string_view left(definition->buffer.data() + stream.Tell(), file_bytes - stream.Tell());
  if (const size_t at = left.find_first_not_of(" \t\r\n"); at != std::string_view::npos) {
    throw MakeError(ErrorKind::kCorrupt, "{}: not a tokenizer.json: at byte {}: text after the end; {}",
                    source_name, stream.Tell() + at, kAdvice);
  }
}

}  // namespace

Definition ParseDefinition(std::string_view tokenizer_json, std::string_view source_name) {
  if (tokenizer_json.size() > kMostFileBytes) {
    throw MakeError(ErrorKind::kUnsupported, "{}: {} bytes; tokenizer files up to 1 GiB are supported",
                    source_name, tokenizer_json.size());
  }
  Definition definition;
  definition.buffer.reserve(tokenizer_json.size() + kPadding);
  definition.buffer.assign(tokenizer_json.begin(), tokenizer_json.end());
  definition.buffer.resize(tokenizer_json.size() + kPadding, '\0');
  json::Document rest;
  ParseInPlace(tokenizer_json.size(), source_name, &definition, &rest);
  ReadFields(Field(&rest, std::string(source_name), ""), &definition);
  for (const auto& token : definition.added) {
    if (token.content.empty() || !IsValidUtf8(token.content)) {
      throw MakeError(ErrorKind::kCorrupt, "{}: added_tokens: the content of id {} is {}", source_name,
                      token.id, token.content.empty() ? "empty" : "not valid UTF-8");
    }
  }
  return definition;
}

}  // namespace preheat::tokenizer
