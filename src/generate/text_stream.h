// The completion's text as its tokens come: without special tokens, without leading or trailing blanks, and
// never half a character.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

namespace preheat::generate {

class TextStream {
 public:
  // `show` gets each new piece of text; it may be empty. The tokenizer must outlive the stream.
  TextStream(const tokenizer::Tokenizer& tokenizer, std::function<void(std::string_view)> show)
      : decoder_(tokenizer, {.skip_special = true, .trim_blanks = true}), show_(std::move(show)) {}

  void Feed(int32_t id) { Emit(decoder_.Feed(id)); }
  // Shows what was held back and returns the whole text.
  const std::string& Finish() {
    Emit(decoder_.Finish());
    return text_;
  }

 private:
  void Emit(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (show_) show_(piece);
  }

  tokenizer::StreamDecoder decoder_;
  std::function<void(std::string_view)> show_;
  std::string text_;
};

}  // namespace preheat::generate
