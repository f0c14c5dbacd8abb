#include "sys/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>

#include "sys/clock.h"
#include "sys/env.h"
#include "sys/files.h"
#include "sys/os_error.h"

extern "C" char** environ;

namespace preheat::sys {
namespace {

// How long a child that was asked to stop may take.
constexpr double kGraceSeconds = 5.0;
// How often cancel and (without pidfd) the child's end are looked at.
constexpr int kPollMs = 20;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { Reset(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  void Reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;
  void Open() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) throw OsError(errno, "cannot start a process", "pipe");
    read.Reset(fds[0]);
    write.Reset(fds[1]);
    ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  }
};

// Stdin as a file in memory, not a pipe: nobody has to feed it, and a child that does not read it cannot
// raise SIGPIPE here.
void OpenStdin(const std::string& bytes, Fd* fd) {
  if (bytes.empty()) {
    fd->Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (fd->get() < 0) throw OsError(errno, "cannot start a process", "/dev/null");
    return;
  }
  fd->Reset(::memfd_create("stdin", MFD_CLOEXEC));
  size_t done = 0;
  while (fd->get() >= 0 && done < bytes.size()) {
    const ssize_t written = ::write(fd->get(), bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno != EINTR) break;
    if (written > 0) done += static_cast<size_t>(written);
  }
  if (fd->get() < 0 || done < bytes.size() || ::lseek(fd->get(), 0, SEEK_SET) != 0) {
    throw OsError(errno, "cannot start a process", "its standard input");
  }
}

std::vector<std::string> ChildEnvironment(const SpawnOptions& options) {
  std::map<std::string, std::string, std::less<>> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=', 1);
    if (equals == std::string_view::npos) continue;
    variables.insert_or_assign(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
  }
  for (const auto& [name, value] : options.env) {
    if (value) {
      variables.insert_or_assign(name, *value);
    } else {
      variables.erase(name);
    }
  }
  std::vector<std::string> result;
  for (const auto& [name, value] : variables) result.push_back(fmt::format("{}={}", name, value));
  return result;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// posix_spawn's two argument objects, freed on every way out.
struct SpawnSetup {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;
};

// The child while it runs. Its destructor kills what has not been waited for.
class Child {
 public:
  Child(pid_t pid, bool group) : pid_(pid), group_(group) {
#ifdef SYS_pidfd_open
    pidfd_.Reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
#endif
  }
  ~Child() {
    if (ended_) return;
    Signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Signal(int number) const {
    ::kill(group_ ? -pid_ : pid_, number);
  }
  int pidfd() const {
    return pidfd_.get();
  }

  // True once it has ended; its status and resource use are in the result then.
  bool Poll(SpawnResult* result) {
    if (ended_) return true;
    int status = 0;
    struct rusage usage;
    const pid_t got = ::wait4(pid_, &status, WNOHANG, &usage);
    if (got == 0 || (got < 0 && errno == EINTR)) return false;
    ended_ = true;
    if (got < 0) return true;  // somebody else waited for it
    if (WIFSIGNALED(status)) {
      result->term_signal = WTERMSIG(status);
    } else {
      result->exit_code = WEXITSTATUS(status);
    }
    result->max_rss_bytes = int64_t{usage.ru_maxrss} * 1024;
    return true;
  }

 private:
  pid_t pid_;
  bool group_;
  bool ended_ = false;
  Fd pidfd_;
};

// Takes what is there. False at the end of the stream.
bool Drain(int fd, std::string* text) {
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got > 0) {
      text->append(buffer, static_cast<size_t>(got));
    } else if (got == 0) {
      return false;
    } else if (errno != EINTR) {
      return errno == EAGAIN || errno == EWOULDBLOCK;
    }
  }
}

// Hands each line of `text` once to the callback.
class LineFeeder {
 public:
  explicit LineFeeder(const std::function<void(std::string_view)>& callback) : callback_(callback) {}
  void Feed(std::string_view text) {
    if (!callback_) return;
    for (size_t end; (end = text.find('\n', begin_)) != std::string_view::npos; begin_ = end + 1) {
      callback_(text.substr(begin_, end - begin_));
    }
  }
  void Finish(std::string_view text) {
    Feed(text);
    if (callback_ && begin_ < text.size()) callback_(text.substr(begin_));
  }

 private:
  const std::function<void(std::string_view)>& callback_;
  size_t begin_ = 0;
};

void RunToEnd(Child* child, Pipe* out, Pipe* err, const SpawnOptions& options, SpawnResult* result) {
  const double start = MonotonicSeconds();
  double kill_at = options.timeout_seconds > 0 ? start + options.timeout_seconds : 0;
  bool cancelled = false;
  LineFeeder lines(options.on_stdout_line);
  bool ended = false;
  while (!ended) {
    pollfd fds[3] = {{out->read.get(), POLLIN, 0}, {err->read.get(), POLLIN, 0}, {child->pidfd(), POLLIN, 0}};
    const bool must_look = options.cancel != nullptr || child->pidfd() < 0 || kill_at > 0;
    const bool pipes_open = out->read.get() >= 0 || err->read.get() >= 0;
    ::poll(fds, 3, must_look || !pipes_open ? kPollMs : -1);
    // Look for the end before reading: what the child wrote is then all there, and a grandchild that keeps
    // the pipe open does not hold us.
    ended = child->Poll(result);
    if (out->read.get() >= 0 && !Drain(out->read.get(), &result->out)) out->read.Reset();
    if (err->read.get() >= 0 && !Drain(err->read.get(), &result->err)) err->read.Reset();
    lines.Feed(result->out);
    if (ended) break;
    const double now = MonotonicSeconds();
    if (options.cancel != nullptr && options.cancel->load() && !cancelled) {
      cancelled = true;
      child->Signal(SIGINT);
      kill_at = kill_at > 0 ? std::min(kill_at, now + kGraceSeconds) : now + kGraceSeconds;
    }
    if (kill_at > 0 && now >= kill_at) {
      result->timed_out = !cancelled;
      child->Signal(SIGKILL);
      kill_at = now + kGraceSeconds;
    }
  }
  lines.Finish(result->out);
  result->wall_seconds = MonotonicSeconds() - start;
}

bool IsExecutableFile(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

std::string SpawnResult::Describe() const {
  if (timed_out) return fmt::format("timed out after {:.1f} s", wall_seconds);
  if (term_signal == 0) return fmt::format("exit code {}", exit_code);
  const char* name = ::sigdescr_np(term_signal);
  return fmt::format("killed by signal {} ({})", term_signal, name != nullptr ? name : "unknown");
}

SpawnResult Spawn(const std::vector<std::string>& argv, const SpawnOptions& options) {
  if (argv.empty())
    throw base::MakeError(base::ErrorKind::kInvalidArgument, "cannot start a process: no program named");
  const std::optional<std::string> program = FindInPath(argv[0]);
  if (!program) {
    if (Exists(argv[0])) throw OsError(EACCES, "cannot start", argv[0]);
    throw base::MakeError(base::ErrorKind::kNotFound, "cannot start: {}: no such program", argv[0]);
  }
  Fd input;
  OpenStdin(options.stdin_bytes, &input);
  Pipe out, err;
  SpawnSetup setup;
  ::posix_spawn_file_actions_adddup2(&setup.actions, input.get(), STDIN_FILENO);
  if (options.stdout_mode == SpawnOptions::Output::kCapture) {
    out.Open();
    ::posix_spawn_file_actions_adddup2(&setup.actions, out.write.get(), STDOUT_FILENO);
  }
  if (options.stderr_mode == SpawnOptions::Output::kCapture) {
    err.Open();
    ::posix_spawn_file_actions_adddup2(&setup.actions, err.write.get(), STDERR_FILENO);
  }
  if (!options.cwd.empty()) ::posix_spawn_file_actions_addchdir_np(&setup.actions, options.cwd.c_str());

  // What this process ignores or blocks is its own affair.
  sigset_t defaults, none;
  ::sigemptyset(&none);
  ::sigemptyset(&defaults);
  for (const int number : {SIGINT, SIGTERM, SIGPIPE, SIGHUP, SIGQUIT}) ::sigaddset(&defaults, number);
  ::posix_spawnattr_setsigdefault(&setup.attributes, &defaults);
  ::posix_spawnattr_setsigmask(&setup.attributes, &none);
  int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  if (options.own_process_group) flags |= POSIX_SPAWN_SETPGROUP;
  ::posix_spawnattr_setflags(&setup.attributes, static_cast<short>(flags));

  const std::vector<std::string> environment = ChildEnvironment(options);
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, program->c_str(), &setup.actions, &setup.attributes,
                                   Pointers(argv).data(), Pointers(environment).data());
  if (failed != 0) {
    const bool folder = !options.cwd.empty() && !IsFolder(options.cwd);
    throw OsError(failed, fmt::format("cannot start {} in", *program),
                  folder ? options.cwd : std::string("this folder"));
  }
  Child child(pid, options.own_process_group);
  out.write.Reset();
  err.write.Reset();
  SpawnResult result;
  RunToEnd(&child, &out, &err, options, &result);
  return result;
}

std::optional<std::string> FindInPath(const std::string& name) {
  if (name.empty()) return std::nullopt;
  if (name.find('/') != std::string::npos) return IsExecutableFile(name) ? std::optional(name) : std::nullopt;
  const std::string path = GetEnv("PATH").value_or("");
  for (size_t begin = 0; begin <= path.size() && !path.empty();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string folder = path.substr(begin, end - begin);
    const std::string candidate = JoinPath(folder.empty() ? "." : folder, name);
    if (IsExecutableFile(candidate)) return candidate;
    begin = end + 1;
  }
  return std::nullopt;
}

std::string SelfPath() {
  char buffer[4096];
  const ssize_t length = ::readlink("/proc/self/exe", buffer, sizeof(buffer));
  if (length < 0) throw OsError(errno, "cannot find this program's file", "/proc/self/exe");
  return std::string(buffer, static_cast<size_t>(length));
}

}  // namespace preheat::sys
