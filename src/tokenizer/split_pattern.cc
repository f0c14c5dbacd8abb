#include "tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/check.h"
#include "base/error.h"

namespace preheat::tokenizer {

using base::Error;
using base::ErrorKind;
using base::MakeError;

namespace {

// Walks a pattern and copies what both engines read alike.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string Run() {
    while (at_ < pattern_.size()) Step();
    return std::move(out_);
  }

 private:
  void Step() {
    const char c = pattern_[at_];
    if (c == '\\') return Escape();
    if (in_class_) {
      if (c == '[') Refuse("a set or POSIX class inside a set");
      if (pattern_.substr(at_, 2) == "&&") Refuse("&& inside a set");
      if (c == ']') {
        if (pattern_[at_ - 1] == '[' || pattern_.substr(at_ - 2, 2) == "[^") Refuse("] as first of a set");
        in_class_ = false;
      }
      return Copy(1);
    }
    switch (c) {
      case '[':
        in_class_ = true;
        return Copy(pattern_.substr(at_, 2) == "[^" ? 2 : 1);
      case '(':
        return Group();
      case '^':
      case '$':
        Refuse("an anchor");  // in Ruby these match at every line
      case '{':
        return Interval();
      default:
        return Copy(1);
    }
  }

  void Escape() {
    if (at_ + 1 == pattern_.size()) Refuse("a backslash at the end");
    const char c = pattern_[at_ + 1];
    switch (c) {
      case 's':
        return Replace(2, "\\p{White_Space}");
      case 'S':
        return Replace(2, "\\P{White_Space}");
      case 'v':
        return Replace(2, "\\x0B");  // PCRE2's \v is a set of vertical blanks
      case 'd':
        return Replace(2, "\\p{Nd}");
      case 'D':
        return Replace(2, "\\P{Nd}");
      case 'r':
      case 'n':
      case 't':
      case 'f':
        return Copy(2);
      case 'p':
      case 'P':
        return Property();
      default:
        break;
    }
    const bool punctuation = static_cast<unsigned char>(c) < 0x80 &&
                             (c < '0' || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || c > 'z');
    if (!punctuation) Refuse(fmt::format("\\{}", c));
    Copy(2);
  }

  // General categories (one or two letters) mean the same in both; scripts and others may not.
  void Property() {
    const size_t close = pattern_.find('}', at_);
    if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || close == std::string_view::npos) {
      Refuse("\\p without braces");
    }
    const std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
    constexpr std::string_view kCategories =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp ";
    if (name.empty() || name.find(' ') != std::string_view::npos ||
        kCategories.find(fmt::format(" {} ", name)) == std::string_view::npos) {
      Refuse(fmt::format("\\{}{{{}}}", pattern_[at_ + 1], name));
    }
    Copy(close + 1 - at_);
  }

  void Group() {
    if (pattern_.substr(at_, 2) == "(*") Refuse("(*");
    if (pattern_.substr(at_, 2) != "(?") return Copy(1);
    for (const std::string_view opening : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (pattern_.substr(at_, opening.size()) == opening) return Copy(opening.size());
    }
    Refuse(pattern_.substr(at_, 4));
  }

  // {n}, {n,}, {n,m}. A + behind one is possessive in PCRE2 and a second repetition in Ruby.
  void Interval() {
    size_t end = at_ + 1;
    while (end < pattern_.size() && (pattern_[end] == ',' || (pattern_[end] >= '0' && pattern_[end] <= '9')))
      ++end;
    const bool plain =
        end > at_ + 1 && pattern_[at_ + 1] != ',' && end < pattern_.size() && pattern_[end] == '}';
    if (!plain) Refuse("{ that opens no repetition");
    if (end + 1 < pattern_.size() && pattern_[end + 1] == '+') Refuse("+ behind a repetition in braces");
    Copy(end + 1 - at_);
  }

  void Copy(size_t bytes) {
    out_ += pattern_.substr(at_, bytes);
    at_ += bytes;
  }

  void Replace(size_t bytes, std::string_view with) {
    out_ += with;
    at_ += bytes;
  }

  [[noreturn]] void Refuse(std::string_view construct) const {
    throw MakeError(ErrorKind::kUnsupported, "split pattern {}: {} at byte {} is not supported", pattern_,
                    construct, at_);
  }

  std::string_view pattern_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

std::string Pcre2Message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// Backtracking of a sound pattern is bounded by a small multiple of the text; this stops (a+)+b and its like.
constexpr uint32_t kMatchLimit = 100'000'000;
// Frames of the interpreter; in KiB. Never reached by the usual patterns: single-character repeats need none.
constexpr uint32_t kHeapLimitKib = 4u << 20;
constexpr size_t kJitStackStart = size_t{32} << 10;
constexpr size_t kJitStackMost = size_t{64} << 20;

}  // namespace

std::string TranslatePattern(std::string_view oniguruma) {
  return Translator(oniguruma).Run();
}

struct SplitPattern::State {
  ~State() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  bool has_jit = false;
  std::string text;
};

SplitPattern::SplitPattern(std::unique_ptr<State> state) : state_(std::move(state)) {}
SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

SplitPattern SplitPattern::Compile(std::string_view oniguruma) {
  const std::string translated = TranslatePattern(oniguruma);
  auto state = std::make_unique<State>();
  state->text = oniguruma;
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  state->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), kOptions,
                              &error, &error_offset, nullptr);
  if (state->code == nullptr) {
    throw MakeError(ErrorKind::kCorrupt, "split pattern {}: {}", oniguruma, Pcre2Message(error));
  }
  uint32_t match_empty = 0;
  pcre2_pattern_info(state->code, PCRE2_INFO_MATCHEMPTY, &match_empty);
  if (match_empty != 0) {
    throw MakeError(ErrorKind::kUnsupported, "split pattern {}: it can match nothing, which is not supported",
                    oniguruma);
  }
  state->has_jit = pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE) == 0;
  return SplitPattern(std::move(state));
}

struct SplitMatcher::State {
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  const SplitPattern::State* pattern = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
};

SplitMatcher::SplitMatcher(const SplitPattern& pattern) : state_(std::make_unique<State>()) {
  state_->pattern = pattern.state_.get();
  state_->data = pcre2_match_data_create(1, nullptr);
  state_->context = pcre2_match_context_create(nullptr);
  CHECK(state_->data != nullptr && state_->context != nullptr);
  pcre2_set_match_limit(state_->context, kMatchLimit);
  pcre2_set_heap_limit(state_->context, kHeapLimitKib);
  if (state_->pattern->has_jit) {
    state_->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr);
    // Without a stack of ours PCRE2 takes 32 KiB of the machine stack, and Find falls back when that is too
    // little.
    if (state_->stack != nullptr) pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
  }
}

SplitMatcher::SplitMatcher(SplitMatcher&&) noexcept = default;
SplitMatcher::~SplitMatcher() = default;

SplitMatcher::Match SplitMatcher::Find(std::string_view text, size_t from) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const pcre2_code* code = state_->pattern->code;
  int rc = PCRE2_ERROR_JIT_STACKLIMIT;
  if (state_->pattern->has_jit) {
    rc = pcre2_jit_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, state_->data, state_->context);
  }
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
    rc = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state_->data,
                     state_->context);
  }
  if (rc == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  if (rc < 0) {
    throw MakeError(ErrorKind::kUnsupported, "split pattern {}: gave up on {} bytes of text: {}",
                    state_->pattern->text, text.size(), Pcre2Message(rc));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state_->data);
  CHECK(range[0] >= from && range[1] > range[0] && range[1] <= text.size());
  return {range[0], range[1]};
}

}  // namespace preheat::tokenizer
