// Ctrl-C as a flag.
#pragma once

#include <signal.h>

#include <atomic>

namespace preheat::sys {

// While it lives, the first SIGINT or SIGTERM sets requested() instead of ending the process; the second one
// of the same kind ends it by default action. One at a time in a process (CHECKed). The destructor puts the
// old actions back.
class InterruptFlag {
 public:
  InterruptFlag();
  ~InterruptFlag();
  InterruptFlag(const InterruptFlag&) = delete;
  InterruptFlag& operator=(const InterruptFlag&) = delete;

  bool requested() const { return flag().load(std::memory_order_relaxed); }
  // For code that polls a plain flag (SpawnOptions::cancel, generate). Lives for the whole process.
  const std::atomic<bool>& flag() const;
  // As if the user had pressed Ctrl-C.
  void Request();

 private:
  struct sigaction old_int_;
  struct sigaction old_term_;
};

}  // namespace preheat::sys
