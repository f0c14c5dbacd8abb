#include "tokenizer/stream_decoder.h"

#include "tokenizer/utf8.h"

namespace preheat::tokenizer {

std::string StreamDecoder::Feed(int32_t id) {
  if (options_.skip_special && tokenizer_.IsSpecial(id)) return {};
  incomplete_ += tokenizer_.TokenBytes(id);
  std::string text;
  TakeDecidedUtf8(&incomplete_, &text);
  return Release(std::move(text));
}

std::string StreamDecoder::Finish() {
  std::string text;
  if (!incomplete_.empty()) text = Release(std::string(kReplacementCharacter));
  incomplete_.clear();
  blanks_.clear();
  shown_ = false;
  return text;
}

std::string StreamDecoder::Release(std::string text) {
  if (!options_.trim_blanks) return text;
  if (!shown_) text.erase(0, LeadingBlankBytes(text));
  if (text.empty()) return {};
  shown_ = true;
  const size_t waiting = TrailingBlankBytes(text);
  if (waiting == text.size()) {
    blanks_ += text;
    return {};
  }
  std::string released = std::move(blanks_) + text.substr(0, text.size() - waiting);
  blanks_ = text.substr(text.size() - waiting);
  return released;
}

}  // namespace preheat::tokenizer
