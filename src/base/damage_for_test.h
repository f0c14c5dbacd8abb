// Damages a file at random, for tests that readers refuse what is broken and never do worse.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace preheat::base {

// One to four changes: a byte becomes any other or one of `characters` (those that the format is made of),
// one of them is put in, a few bytes go, a piece is repeated elsewhere, or the end is cut off. Not empty
// where `text` is not.
template <typename Random>
std::string Damaged(std::string text, std::string_view characters, Random& random) {
  const auto below = [&random](size_t end) { return static_cast<size_t>(random() % end); };
  for (size_t changes = 1 + below(4); changes > 0 && !text.empty(); --changes) {
    const size_t at = below(text.size());
    const char character = characters[below(characters.size())];
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text[at] = character;
        break;
      case 2:
        text.insert(at, 1, character);
        break;
      case 3:
        text.erase(at, 1 + below(20));
        break;
      case 4:
        text.insert(at, text.substr(below(text.size()), below(60)));
        break;
      case 5:
        text.resize(at + 1);
        break;
    }
  }
  if (text.empty()) text.push_back(characters.front());
  return text;
}

}  // namespace preheat::base
