#include "cli/trial.h"

#include <cstdio>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "cli/engine.h"
#include "cli/exit_code.h"
#include "device/open.h"
#include "sys/env.h"
#include "sys/signals.h"

namespace preheat::cli {
namespace {

// Lines that differ in a time alone say the same.
std::string WithoutDigits(std::string line) {
  std::erase_if(line, [](char c) { return c >= '0' && c <= '9'; });
  return line;
}

// Warnings of a child are the user's, too; what all children say is said once.
void PassWarningsOn(const std::string& err) {
  static std::set<std::string> told;
  constexpr std::string_view kBegin = "preheat: warning: ";
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kBegin) && told.insert(WithoutDigits(line)).second)
      base::WarnText(line.substr(kBegin.size()));
  }
}

}  // namespace

Trial RunTrial(const TrialOptions& options) {
  const sys::InterruptFlag interrupt;
  const sys::UniqueTempDir cache("preheat-trial");
  sys::SpawnOptions spawn;
  spawn.cancel = &interrupt.flag();
  if (options.fresh_cache) spawn.env = {{"PREHEAT_CACHE_DIR", cache.path()}};
  if (options.show) {
    spawn.on_stdout_line = [](std::string_view line) {
      std::fwrite(line.data(), 1, line.size(), stdout);
      std::fputc('\n', stdout);
    };
  }
  Words argv = {sys::SelfPath(), options.command};
  argv.insert(argv.end(), options.words.begin(), options.words.end());
  sys::SpawnResult result = sys::Spawn(argv, spawn);
  if (interrupt.requested() || result.exit_code == kExitInterrupted) {
    throw base::MakeError(base::ErrorKind::kInterrupted, "stopped");
  }
  if (!result.ok()) {
    throw base::MakeError(base::ErrorKind::kToolFailed,
                          "a trial's process ended with {}; all that it said:\n{}{}", result.Describe(),
                          result.out, result.err);
  }
  PassWarningsOn(result.err);
  return {.output = std::move(result.out), .wall_seconds = result.wall_seconds};
}

Words OnOneDevice(const SharedOptions& options, Words words) {
  if (options.device.device == "auto") {
    words.insert(words.end(), {"--device", device::Resolve("auto", OpenOptionsWith(options.cache_path))});
  }
  return words;
}

}  // namespace preheat::cli
