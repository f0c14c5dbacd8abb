// A model folder's tokenizer. Free function, thread-safe.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace preheat::tokenizer {

// Reads FOLDER/tokenizer.json. Throws NotFound, AccessDenied or Io as sys::MappedFile does, and what
// Tokenizer::Parse throws, naming the file.
Tokenizer LoadTokenizer(const std::string& folder);

}  // namespace preheat::tokenizer
