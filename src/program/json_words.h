// The words of a program's JSON document, each at its enumerator's value.
#pragma once

#include <array>
#include <string_view>

namespace preheat::program {

inline constexpr std::array<std::string_view, 3> kPerNames = {"step", "rows", "positions"};
inline constexpr std::array<std::string_view, 8> kKindNames = {"weight", "buffer", "key_cache", "value_cache",
                                                               "rotary", "ids",    "state",     "logits"};
inline constexpr std::array<std::string_view, 3> kAccessNames = {"read", "write", "read_write"};
inline constexpr std::array<std::string_view, 2> kStepKindNames = {"prefill", "decode"};
inline constexpr std::array<std::string_view, 2> kLogitRowsNames = {"last", "all"};

}  // namespace preheat::program
