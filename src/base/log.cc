#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <string>

#include "base/progress.h"

namespace preheat::base {
namespace {

std::atomic<LogLevel> current_level{LogLevel::kNormal};

// One fwrite a line, so that lines of several threads do not mix.
void WriteLine(std::string_view prefix, std::string_view message) {
  std::string line;
  line.reserve(prefix.size() + message.size() + 1);
  line.append(prefix).append(message).push_back('\n');
  HideProgressLine();
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace

void SetLogLevel(LogLevel level) {
  current_level = level;
}
LogLevel log_level() {
  return current_level;
}

void WarnText(std::string_view message) {
  if (log_level() != LogLevel::kQuiet) WriteLine("preheat: warning: ", message);
}

void DetailText(std::string_view message) {
  if (log_level() == LogLevel::kVerbose) WriteLine("preheat: ", message);
}

}  // namespace preheat::base
