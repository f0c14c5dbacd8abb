#include "sys/os_error.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace preheat::sys {

using base::ErrorKind;
using base::MakeError;

std::string OsErrorText(int error_number) {
  if (const char* text = ::strerrordesc_np(error_number)) return text;
  return fmt::format("error {}", error_number);
}

base::Error OsError(int error_number, std::string_view what, std::string_view path) {
  const std::string text = OsErrorText(error_number);
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return MakeError(ErrorKind::kNotFound, "{}: {}: {}", what, path, text);
    case EROFS:
      return MakeError(ErrorKind::kAccessDenied, "{}: {}: {}; use a folder that can be written", what, path,
                       text);
    case EACCES:
    case EPERM:
      return MakeError(ErrorKind::kAccessDenied, "{}: {}: {}; check its permissions", what, path, text);
    case ENOSPC:
    case EDQUOT:
      return MakeError(ErrorKind::kIo, "{}: {}: {} (the disk is full); free some space", what, path, text);
    default:
      return MakeError(ErrorKind::kIo, "{}: {}: {}", what, path, text);
  }
}

}  // namespace preheat::sys
