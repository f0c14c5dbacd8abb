// Messages to stderr: warnings always, details with --verbose, nothing but errors with --quiet.
// Results never go through here: they belong to stdout, and only cli prints them. Thread-safe.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace preheat::base {

enum class LogLevel { kQuiet, kNormal, kVerbose };

void SetLogLevel(LogLevel level);
LogLevel log_level();

// Writes "preheat: warning: MESSAGE" unless the level is kQuiet.
void WarnText(std::string_view message);
// Writes "preheat: MESSAGE" where the level is kVerbose.
void DetailText(std::string_view message);

template <typename... Args>
void Warn(fmt::format_string<Args...> format, Args&&... args) {
  WarnText(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void Detail(fmt::format_string<Args...> format, Args&&... args) {
  if (log_level() == LogLevel::kVerbose) DetailText(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace preheat::base
