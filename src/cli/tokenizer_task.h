// The model's tokenizer, opened beside other work: reading and hashing a tokenizer.json of 9 MB and checking
// its tables would else be a good part of a start.
#pragma once

#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/entry_source.h"
#include "sys/files.h"
#include "tokenizer/tokenizer.h"

namespace preheat::cli {

// The key of a tokenizer's prepared form, from the bytes of its tokenizer.json.
store::Key TokenizerKey(std::string_view tokenizer_json);

class TokenizerTask {
 public:
  struct Result {
    // Empty where the folder has no tokenizer.json.
    std::optional<tokenizer::Tokenizer> tokenizer;
    // What it points into, where it came prepared.
    std::optional<store::EntryBytes> tables;
    double seconds = 0;
  };

  // Starts reading <folder>/tokenizer.json.
  explicit TokenizerTask(const std::string& folder);

  // Goes on with the prepared form that the first of `sources` has, else with the file itself. The sources
  // must outlive the task. To be called once.
  void PrepareFrom(std::vector<store::EntrySource*> sources);

  // Waits for the result. Errors: what is wrong with the file or the prepared form.
  Result Take() { return result_.get(); }

 private:
  struct HashedFile {
    std::string path;
    std::optional<sys::OwnedBytes> json;  // none: no such file
    store::Key key;
    double seconds = 0;

    std::string_view text() const { return {reinterpret_cast<const char*>(json->data.get()), json->size}; }
  };

  std::future<HashedFile> file_;
  std::future<Result> result_;
};

}  // namespace preheat::cli
