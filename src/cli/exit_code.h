// What the process says by its exit code; docs/from-torch.md lists them for users.
#pragma once

#include "base/error.h"

namespace preheat::cli {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitWouldCompile = 3;
inline constexpr int kExitIncompatible = 4;
inline constexpr int kExitDamaged = 65;
inline constexpr int kExitNotFound = 66;
inline constexpr int kExitUnavailable = 69;
inline constexpr int kExitIo = 74;
inline constexpr int kExitNotPermitted = 77;
inline constexpr int kExitInterrupted = 130;

int ExitCode(base::ErrorKind kind);

}  // namespace preheat::cli
