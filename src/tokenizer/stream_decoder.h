// Decoding as tokens come: every call returns the text that has become certain, so that the pieces put
// together are what Decode gives for all ids at once. A character may span tokens: its bytes are held back
// until it is whole.
#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace preheat::tokenizer {

struct StreamOptions {
  bool skip_special = true;
  // Show no leading or trailing blanks (those of Python's str.strip): trailing ones are held back until other
  // text follows, and dropped at the end.
  bool trim_blanks = false;
};

// For one thread. The tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, StreamOptions options = {})
      : tokenizer_(tokenizer), options_(options) {}

  // Text that is certain now; valid UTF-8, often empty. Ids without a token give nothing.
  std::string Feed(int32_t id);
  // What was held back: U+FFFD for a character that was never completed. Afterwards the decoder is as new.
  std::string Finish();

 private:
  // Takes `text` and what is held back apart into what may be shown and what waits.
  std::string Release(std::string text);

  const Tokenizer& tokenizer_;
  const StreamOptions options_;
  std::string incomplete_;  // up to 3 bytes of a character
  std::string blanks_;      // trailing blanks that wait, with trim_blanks
  bool shown_ = false;      // something other than blanks has been returned
};

}  // namespace preheat::tokenizer
