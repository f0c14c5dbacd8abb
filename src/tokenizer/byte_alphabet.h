// The alphabet of byte-level BPE (GPT-2, 2019: encoder.py, bytes_to_unicode): vocabularies spell every byte
// as one printable character. 188 bytes stand for the character of their own number; the other 68 (controls,
// space, DEL, C1, NBSP, soft hyphen) are U+0100, U+0101, ... in order of the byte. So a space reads "Ġ"
// (U+0120).
#pragma once

#include <string>
#include <string_view>

namespace preheat::tokenizer {

// Writes the bytes that `spelled` (UTF-8) stands for to `out`, which has room for spelled.size() bytes, and
// returns how many; -1 when a character is not of the alphabet or the UTF-8 is invalid.
int DecodeByteAlphabet(std::string_view spelled, char* out);

// The spelling of `bytes` in the alphabet.
std::string EncodeByteAlphabet(std::string_view bytes);

}  // namespace preheat::tokenizer
