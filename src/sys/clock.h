// Clocks.
#pragma once

#include <string>

namespace preheat::sys {

// Seconds of a clock that never jumps; its zero means nothing.
double MonotonicSeconds();

// Seconds since this process was started. The kernel notes a start in ticks of 10 ms (/proc/self/stat);
// within that tick the start is taken as: when this program's first code ran, minus the CPU time that the
// process had used by then. The error is the time that the process waited (disk, run queue) before its first
// code, and at most 10 ms. A shell script that `exec`s this program is the same process: its time counts, as
// a user feels it.
double ProcessStartSeconds();

// "2025-11-30T12:34:56.789012+00:00", as Python's datetime.now(timezone.utc).isoformat() gives.
std::string UtcTimestamp();
// "2025-11-30", local time.
std::string LocalDate();

}  // namespace preheat::sys
