// Is anybody looking?
#pragma once

namespace preheat::sys {

bool IsTerminal(int fd);
// Colour on `fd`: a terminal, TERM neither missing nor "dumb", and NO_COLOR (https://no-color.org) not set.
bool ColourWanted(int fd);

}  // namespace preheat::sys
