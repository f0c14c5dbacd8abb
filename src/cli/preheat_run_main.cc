// preheat-run: preloads an artifact and generates, and can do nothing else: no compiler, no graph, no library
// kernels are linked into it. One file that needs nothing but glibc.
#include <fmt/format.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/run_request.h"
#include "cli/version.h"

namespace preheat::cli {
namespace {

int PreloadAndRun(const Words& words) {
  if (!words.empty() && words.front() == "--version") {
    fmt::print("preheat-run {}\n", kVersion);
    return kExitDone;
  }
  auto options = ParseRun("preheat-run", words);
  if (!options) return kExitDone;
  ApplyDeviceOptions(options->shared.device);
  if (options->compare) {
    throw base::MakeError(
        base::ErrorKind::kUnsupported,
        "--compare-load-vs-skip: preheat-run cannot compile, so it has nothing to compare; use preheat");
  }
  options->generation.forbid_compile = true;
  return RunRequest(*options, Backends{});
}

}  // namespace
}  // namespace preheat::cli

int main(int argc, char** argv) {
  return preheat::cli::Guarded("preheat-run", preheat::cli::PreloadAndRun, {argv + 1, argv + argc});
}
