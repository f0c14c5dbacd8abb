// CHECK(condition): an invariant of our own code. A failed check is a bug of ours: it prints where and
// aborts. Never for anything a user can supply (file, flag, device, compiler output): throw Error there.
#pragma once

namespace preheat::base {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace preheat::base

#define CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::preheat::base::CheckFailed(__FILE__, __LINE__, #condition))
