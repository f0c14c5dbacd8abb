// "did you mean": the valid word nearest to what was typed.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace preheat::cli {

// Edits (insert, delete, replace, swap of neighbours) between the two words.
int EditDistance(std::string_view a, std::string_view b);

// The word of `valid` nearest to `typed`. REQUIRES: `valid` is not empty.
const std::string& Nearest(std::string_view typed, std::span<const std::string> valid);

}  // namespace preheat::cli
