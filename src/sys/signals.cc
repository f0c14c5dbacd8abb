#include "sys/signals.h"

#include "base/check.h"

namespace preheat::sys {
namespace {

std::atomic<bool> g_requested{false};
std::atomic<bool> g_installed{false};
static_assert(std::atomic<bool>::is_always_lock_free, "the handler may touch lock-free atomics only");

void OnSignal(int) {
  g_requested.store(true, std::memory_order_relaxed);
}

}  // namespace

InterruptFlag::InterruptFlag() {
  CHECK(!g_installed.exchange(true));
  g_requested.store(false);
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  // RESETHAND: the second one finds the default action.
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &old_int_);
  ::sigaction(SIGTERM, &action, &old_term_);
}

InterruptFlag::~InterruptFlag() {
  ::sigaction(SIGINT, &old_int_, nullptr);
  ::sigaction(SIGTERM, &old_term_, nullptr);
  g_installed.store(false);
}

const std::atomic<bool>& InterruptFlag::flag() const {
  return g_requested;
}

void InterruptFlag::Request() {
  g_requested.store(true);
}

}  // namespace preheat::sys
