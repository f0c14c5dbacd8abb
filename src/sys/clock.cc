#include "sys/clock.h"

#include <fcntl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace preheat::sys {
namespace {

double Seconds(clockid_t clock) {
  timespec now;
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Field 22 of /proc/self/stat, in seconds of CLOCK_BOOTTIME. The name in field 2 may hold blanks and
// brackets, so count from its last bracket.
std::optional<double> StartTick() {
  const int fd = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char buffer[1024];
  const ssize_t length = ::read(fd, buffer, sizeof(buffer));
  ::close(fd);
  if (length <= 0) return std::nullopt;
  const std::string_view text(buffer, static_cast<size_t>(length));
  size_t at = text.rfind(')');
  if (at == std::string_view::npos) return std::nullopt;
  for (int field = 3; field <= 22; ++field) {
    at = text.find(' ', at + 1);
    if (at == std::string_view::npos) return std::nullopt;
  }
  uint64_t ticks = 0;
  if (std::from_chars(text.data() + at + 1, text.data() + text.size(), ticks).ec != std::errc())
    return std::nullopt;
  return static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// When the process started, on CLOCK_BOOTTIME.
double EstimateStart() {
  const double now = Seconds(CLOCK_BOOTTIME);
  // CPU time is wall time that certainly passed since the start, as long as there is one thread.
  const double latest = now - Seconds(CLOCK_PROCESS_CPUTIME_ID);
  const std::optional<double> tick = StartTick();
  // A container may shift the boot clock (time namespaces): a tick that cannot be true is not used.
  if (!tick || *tick > now) return latest;
  const double tick_seconds = 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return std::clamp(latest, *tick, *tick + tick_seconds);
}

double ProcessStart() {
  static const double start = EstimateStart();
  return start;
}

// Evaluated while the program's globals are built: before there is a second thread, with little CPU time
// used.
[[maybe_unused]] const double kEarlyProcessStart = ProcessStart();

}  // namespace

double MonotonicSeconds() {
  return Seconds(CLOCK_MONOTONIC);
}

double ProcessStartSeconds() {
  return Seconds(CLOCK_BOOTTIME) - ProcessStart();
}

std::string UtcTimestamp() {
  timeval now;
  ::gettimeofday(&now, nullptr);
  tm utc;
  ::gmtime_r(&now.tv_sec, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}+00:00", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_usec);
}

std::string LocalDate() {
  const time_t now = ::time(nullptr);
  tm local;
  ::localtime_r(&now, &local);
  return fmt::format("{:04}-{:02}-{:02}", local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
}

}  // namespace preheat::sys
