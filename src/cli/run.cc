#include "cli/backends.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "cli/exit_code.h"
#include "cli/run_request.h"

namespace preheat::cli {
namespace {

int Run(const std::string& command, const Words& words) {
  const auto options = ParseRun(command, words);
  if (!options) return kExitDone;
  ApplyDeviceOptions(options->shared.device);
  if (options->compare) return CompareLoadAndSkip(*options, words);
  return RunRequest(*options, FullBackends());
}

}  // namespace

int RunCommand(const Words& words) {
  return Run("run", words);
}
int CompareCommand(const Words& words) {
  return Run("compare", words);
}
int EagerCommand(const Words& words) {
  return Run("eager", words);
}

}  // namespace preheat::cli
