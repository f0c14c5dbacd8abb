// Tokenizer files for tests: a minimal one whose parts can be replaced, and those on disk.
#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tokenizer/byte_alphabet.h"

namespace preheat::tokenizer {

// The 256 bytes, id = byte; then ab, abc, bc (256, 257, 258) and their merges; "<s>" is 259 and BOS, "<x>"
// 260.
struct TestFile {
  std::string extra_vocabulary = R"(,"ab":256,"abc":257,"bc":258)";
  std::string merges = R"(["a b","ab c","b c"])";
  std::string model_fields = R"("type":"BPE","ignore_merges":false)";
  std::string normalizer = "null";
  std::string pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
  std::string post_processor =
      R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{"id":"A"}}],)"
      R"("special_tokens":{"<s>":{"id":"<s>","ids":[259],"tokens":["<s>"]}}})";
  std::string decoder = R"({"type":"ByteLevel"})";
  std::string added =
      R"([{"id":259,"content":"<s>","special":true},{"id":260,"content":"<x>","special":false,)"
      R"("normalized":false,"single_word":false,"lstrip":false,"rstrip":false}])";
  std::optional<int> left_out_byte;

  std::string Json() const {
    std::string vocabulary;
    for (int byte = 0; byte < 256; ++byte) {
      if (byte == left_out_byte) continue;
      std::string spelled = EncodeByteAlphabet(std::string(1, static_cast<char>(byte)));
      if (spelled == "\"" || spelled == "\\") spelled.insert(spelled.begin(), '\\');
      if (!vocabulary.empty()) vocabulary += ',';
      vocabulary += fmt::format(R"("{}":{})", spelled, byte);
    }
    return fmt::format(
        R"({{"version":"1.0","added_tokens":{},"normalizer":{},"pre_tokenizer":{},"post_processor":{},)"
        R"("decoder":{},"model":{{{},"vocab":{{{}{}}},"merges":{}}}}})",
        added, normalizer, pre_tokenizer, post_processor, decoder, model_fields, vocabulary, extra_vocabulary,
        merges);
  }
};

inline std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

inline std::string TinyInstructJson() {
  return ReadWhole(PREHEAT_SOURCE_DIR "/models/tiny-instruct/tokenizer.json");
}

// A file of the shared test data; empty where that is not there.
inline std::string SharedTestData(const std::string& path) {
  const char* root = std::getenv("PREHEAT_TEST_DATA");
  const std::string whole =
      (root != nullptr ? std::string(root) : PREHEAT_SOURCE_DIR "/../shared/data") + "/" + path;
  return std::filesystem::exists(whole) ? ReadWhole(whole) : std::string();
}

}  // namespace preheat::tokenizer
