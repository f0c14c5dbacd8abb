#include "cli/exit_code.h"

namespace preheat::cli {

int ExitCode(base::ErrorKind kind) {
  using base::ErrorKind;
  switch (kind) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kUnsupported:
      return kExitUsage;
    case ErrorKind::kNotFound:
      return kExitNotFound;
    case ErrorKind::kCorrupt:
      return kExitDamaged;
    case ErrorKind::kIncompatible:
      return kExitIncompatible;
    case ErrorKind::kWouldCompile:
      return kExitWouldCompile;
    case ErrorKind::kToolFailed:
      return kExitFailed;
    case ErrorKind::kIo:
      return kExitIo;
    case ErrorKind::kDevice:
    case ErrorKind::kNetwork:
      return kExitUnavailable;
    case ErrorKind::kAccessDenied:
      return kExitNotPermitted;
    case ErrorKind::kInterrupted:
      return kExitInterrupted;
  }
  return kExitFailed;
}

}  // namespace preheat::cli
