#include "sys/terminal.h"

#include <unistd.h>

#include "sys/env.h"

namespace preheat::sys {

bool IsTerminal(int fd) {
  return ::isatty(fd) == 1;
}

bool ColourWanted(int fd) {
  return IsTerminal(fd) && !GetEnv("NO_COLOR") && GetEnv("TERM").value_or("dumb") != "dumb";
}

}  // namespace preheat::sys
