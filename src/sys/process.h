// Runs another program: no shell, so that no argument is ever interpreted. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace preheat::sys {

struct SpawnOptions {
  std::string stdin_bytes;  // empty: /dev/null
  // Set (or, with nullopt, removed) on top of this process's environment.
  std::vector<std::pair<std::string, std::optional<std::string>>> env;
  std::string cwd;             // empty: this process's
  double timeout_seconds = 0;  // 0: none. When it passes, the child's whole process group is killed
  enum class Output { kCapture, kInherit };
  Output stdout_mode = Output::kCapture;
  Output stderr_mode = Output::kCapture;
  // Called for each line of captured stdout as it comes, without its newline, on the calling thread. It may
  // throw: the child is killed and the exception passed on. The text is in SpawnResult too.
  std::function<void(std::string_view line)> on_stdout_line;
  // Where it becomes true the child gets SIGINT, and is killed if it has not ended 5 s later. May be null.
  const std::atomic<bool>* cancel = nullptr;
  // A group of its own keeps the terminal's Ctrl-C from the child (cancel still reaches it); a timeout then
  // kills its children, too (a compiler driver has some).
  bool own_process_group = true;
};

struct SpawnResult {
  int exit_code = -1;  // valid where term_signal is 0
  int term_signal = 0;
  bool timed_out = false;
  std::string out;
  std::string err;
  double wall_seconds = 0;
  int64_t max_rss_bytes = 0;

  bool ok() const { return term_signal == 0 && exit_code == 0; }
  // "exit code 3", "killed by signal 9 (Killed)", "timed out after 5.0 s".
  std::string Describe() const;
};

// argv[0] is a path, or a name that is looked up in PATH. Throws kNotFound where there is no such program,
// kAccessDenied where it may not be run, kIo where no process can be made. How the child ended is in the
// result.
SpawnResult Spawn(const std::vector<std::string>& argv, const SpawnOptions& options = {});

// The first executable file of that name in PATH; a name with a slash is checked as it is.
std::optional<std::string> FindInPath(const std::string& name);

// The path of this program's own file.
std::string SelfPath();

}  // namespace preheat::sys
