// What compilers share: units side by side, their counting, and sources that are kept where one fails.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "toolchain/compiler.h"

namespace preheat::toolchain {

// Calls compile(unit, index) for all units, `options.jobs` at once; throws the error of the first that
// failed.
std::vector<CompiledUnit> CompileSideBySide(const std::vector<Unit>& units, const CompileOptions& options,
                                            const std::function<CompiledUnit(const Unit&, size_t)>& compile);

// Writes the source where a user finds it; returns a sentence that says where.
std::string KeepSource(const Unit& unit, const CompileOptions& options, std::string_view suffix);

// The first `count` lines, and dots where there were more.
std::string FirstLines(const std::string& text, size_t count);
std::vector<std::string> SplitAtBlanks(const std::string& text);
std::string JoinWords(const std::vector<std::string>& words);

}  // namespace preheat::toolchain
