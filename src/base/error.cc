#include "base/error.h"

namespace preheat::base {

std::string_view ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
      return "InvalidArgument";
    case ErrorKind::kNotFound:
      return "NotFound";
    case ErrorKind::kCorrupt:
      return "Corrupt";
    case ErrorKind::kIncompatible:
      return "Incompatible";
    case ErrorKind::kUnsupported:
      return "Unsupported";
    case ErrorKind::kWouldCompile:
      return "WouldCompile";
    case ErrorKind::kToolFailed:
      return "ToolFailed";
    case ErrorKind::kIo:
      return "Io";
    case ErrorKind::kDevice:
      return "Device";
    case ErrorKind::kNetwork:
      return "Network";
    case ErrorKind::kAccessDenied:
      return "AccessDenied";
    case ErrorKind::kInterrupted:
      return "Interrupted";
  }
  return "Unknown";
}

}  // namespace preheat::base
