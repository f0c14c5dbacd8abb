#include <cstdio>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/exit_code.h"

namespace preheat::cli {
namespace {

int Report(const std::string& program, const char* message, int exit_code) {
  base::HideProgressLine();
  std::fflush(stdout);
  std::fprintf(stderr, "%s: error: %s\n", program.c_str(), message);
  return exit_code;
}

}  // namespace

int Guarded(const std::string& program, int (*run)(const Words&), const Words& words) {
  try {
    const int exit_code = run(words);
    // A full disk or a closed pipe shows when the last bytes leave.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      return Report(program, "writing to standard output failed", kExitIo);
    }
    return exit_code;
  } catch (const base::Error& error) {
    return Report(program, error.what(), ExitCode(error.kind()));
  } catch (const std::bad_alloc&) {
    return Report(program, "out of memory; use a smaller model or a shorter context", kExitFailed);
  } catch (const std::exception& error) {
    return Report(program, error.what(), kExitFailed);
  }
}

}  // namespace preheat::cli
