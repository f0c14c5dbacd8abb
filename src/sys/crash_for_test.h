// A crash at a chosen place: runs work in a process of its own and kills it (SIGKILL) before one of its
// operations on files, so that a test can look at what is left. The process is traced (ptrace): the code
// under test knows nothing of it and may as well be a program that the work starts with execve.
//
//   for (int n = 1;; ++n) {
//     const auto crash = CrashBefore(n, folder, work);
//     ... look at what is left ...
//     if (!crash.operation) break;  // it got to its end
//   }
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace preheat::sys {

struct FileOperation {
  std::string call;  // "rename"
  std::string path;
};

struct Crash {
  std::optional<FileOperation> operation;  // before which it was killed; none: it ended by itself
  int status = 0;                          // of waitpid
  bool EndedWell() const { return !operation && WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

class CrashTracer {
 public:
  // Opened files are known by their real names, others by the names that the child uses.
  CrashTracer(pid_t child, std::string folder)
      : child_(child), folder_(std::move(folder)), real_folder_(std::filesystem::canonical(folder_)) {}

  // Stops at every system call of the child's first thread; what changes files below the folder counts.
  Crash Run(int number) {
    Crash crash;
    int seen = 0;
    ::waitpid(child_, &crash.status, 0);
    CHECK(WIFSTOPPED(crash.status));
    CHECK(::ptrace(PTRACE_SETOPTIONS, child_, 0,
                   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL) == 0);
    for (int signal = 0;;) {
      ::ptrace(PTRACE_SYSCALL, child_, 0, signal);
      ::waitpid(child_, &crash.status, 0);
      if (!WIFSTOPPED(crash.status)) return crash;
      const bool of_tracing = (crash.status >> 16) != 0 || WSTOPSIG(crash.status) == (SIGTRAP | 0x80);
      signal = of_tracing ? 0 : WSTOPSIG(crash.status);
      if (WSTOPSIG(crash.status) != (SIGTRAP | 0x80)) continue;
      const auto operation = Operation();
      if (!operation || !Below(operation->path) || ++seen < number) continue;
      crash.operation = operation;
      ::kill(child_, SIGKILL);
      ::waitpid(child_, &crash.status, 0);
      return crash;
    }
  }

 private:
  bool Below(const std::string& path) const {
    return path.starts_with(folder_) || path.starts_with(real_folder_);
  }

  // The call that the child is about to make, if it is one that changes files.
  std::optional<FileOperation> Operation() const {
    __ptrace_syscall_info info = {};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, child_, sizeof(info), &info) <= 0) return std::nullopt;
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return std::nullopt;
    const auto& args = info.entry.args;
    const auto creates = [](uint64_t flags) { return (flags & O_CREAT) != 0; };
    switch (info.entry.nr) {
      case SYS_open:
        return creates(args[1]) ? Named("create", args[0]) : std::nullopt;
      case SYS_openat:
        return creates(args[2]) ? Named("create", args[1]) : std::nullopt;
      case SYS_write:
      case SYS_pwrite64:
      case SYS_writev:
        return Opened("write", args[0]);
      case SYS_fallocate:
      case SYS_ftruncate:
        return Opened("resize", args[0]);
      case SYS_flock:
        return Opened("lock", args[0]);
      case SYS_fsync:
      case SYS_fdatasync:
        return Opened("sync", args[0]);
      case SYS_rename:
        return Named("rename", args[0]);
      case SYS_renameat:
      case SYS_renameat2:
        return Named("rename", args[1]);
      case SYS_unlink:
        return Named("remove", args[0]);
      case SYS_unlinkat:
        return Named("remove", args[1]);
      case SYS_mkdir:
        return Named("make folder", args[0]);
      case SYS_mkdirat:
        return Named("make folder", args[1]);
      default:
        return std::nullopt;
    }
  }

  std::optional<FileOperation> Named(const char* call, uint64_t address) const {
    char text[PATH_MAX] = {};
    // Page by page: the name may stand at the end of what can be read.
    constexpr uint64_t kPage = 4096;
    for (uint64_t used = 0; used < sizeof(text) - 1;) {
      const uint64_t here = address + used;
      iovec to = {text + used, std::min<uint64_t>(sizeof(text) - 1 - used, kPage - here % kPage)};
      iovec from = {reinterpret_cast<void*>(here), to.iov_len};
      if (::process_vm_readv(child_, &to, 1, &from, 1, 0) <= 0) break;
      const std::string_view read(text + used, to.iov_len);
      if (read.find('\0') != std::string_view::npos) break;
      used += to.iov_len;
    }
    return FileOperation{call, text};
  }

  std::optional<FileOperation> Opened(const char* call, uint64_t descriptor) const {
    char text[PATH_MAX] = {};
    const std::string link = "/proc/" + std::to_string(child_) + "/fd/" + std::to_string(descriptor);
    if (::readlink(link.c_str(), text, sizeof(text) - 1) < 0) return std::nullopt;
    return FileOperation{call, text};
  }

  pid_t child_;
  std::string folder_;
  std::string real_folder_;
};

// Kills `work` before its operation `number` (from 1) on files below `folder`, which exists. Work that
// returns ends its process with 0. REQUIRES: CanTrace().
inline Crash CrashBefore(int number, const std::string& folder, const std::function<void()>& work) {
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    try {
      work();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  return CrashTracer(child, folder).Run(number);
}

// Some containers forbid it.
inline bool CanTrace() {
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace preheat::sys
