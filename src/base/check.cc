#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace preheat::base {

void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "preheat: internal error at %s:%d: CHECK(%s) failed; please report this\n", file, line,
               condition);
  std::abort();
}

}  // namespace preheat::base
