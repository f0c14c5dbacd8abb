#include "cli/tokenizer_task.h"

#include <utility>

#include "base/hash.h"
#include "sys/clock.h"

namespace preheat::cli {

store::Key TokenizerKey(std::string_view tokenizer_json) {
  return store::KeyBuilder().Add("format", 1).Add("tokenizer", base::Sha256Hex(tokenizer_json)).Build();
}

TokenizerTask::TokenizerTask(const std::string& folder)
    : file_(std::async(std::launch::async, [path = folder + "/tokenizer.json"] {
        const double start = sys::MonotonicSeconds();
        HashedFile file;
        file.path = path;
        if (!sys::Exists(path)) return file;
        file.json = sys::ReadFileBytes(path);
        file.key = TokenizerKey(file.text());
        file.seconds = sys::MonotonicSeconds() - start;
        return file;
      })) {}

void TokenizerTask::PrepareFrom(std::vector<store::EntrySource*> sources) {
  result_ = std::async(std::launch::async, [file = std::move(file_), sources = std::move(sources)]() mutable {
    const HashedFile hashed = file.get();
    Result result;
    if (!hashed.json) return result;
    const double start = sys::MonotonicSeconds();
    result.tables =
        store::SourceChain(std::move(sources)).Get(store::EntryKind::kTokenizer, hashed.key.name());
    result.tokenizer =
        result.tables ? tokenizer::Tokenizer::FromSerialized(result.tables->text(), "the prepared tokenizer")
                      : tokenizer::Tokenizer::Parse(hashed.text(), hashed.path);
    result.seconds = hashed.seconds + sys::MonotonicSeconds() - start;
    return result;
  });
}

}  // namespace preheat::cli
