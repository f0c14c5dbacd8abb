// The regular expressions that cut text before BPE. Hugging Face runs them with Oniguruma (Ruby syntax); here
// they are translated to PCRE2 (UTF, UCP, JIT) and anything that the two engines may read differently is
// Unsupported: better no answer than other tokens. Known difference inside what is accepted: PCRE2's \s takes
// U+180E for a space, so \s becomes \p{White_Space}.
//
// A SplitPattern may be used by many threads at once; each needs a SplitMatcher of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace preheat::tokenizer {

// The PCRE2 spelling of a pattern in Oniguruma's syntax. Throws Unsupported naming the construct.
std::string TranslatePattern(std::string_view oniguruma);

class SplitPattern {
 public:
  // Throws Unsupported (a construct outside the common subset, or one that can match nothing) or Corrupt (not
  // a regular expression). Without executable memory it falls back to PCRE2's interpreter.
  static SplitPattern Compile(std::string_view oniguruma);

  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

 private:
  friend class SplitMatcher;
  struct State;
  explicit SplitPattern(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Memory for matching, reused from text to text. The pattern must outlive it.
class SplitMatcher {
 public:
  explicit SplitMatcher(const SplitPattern& pattern);
  SplitMatcher(SplitMatcher&&) noexcept;
  ~SplitMatcher();

  struct Match {
    size_t begin;
    size_t end;  // > begin
  };
  // The first match at or behind `from`; {text.size(), text.size()} when there is none.
  // REQUIRES: valid UTF-8, `from` at a character's start. Throws Unsupported when the pattern needs too many
  // steps.
  Match Find(std::string_view text, size_t from);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace preheat::tokenizer
