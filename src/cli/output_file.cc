#include "cli/output_file.h"

#include <unistd.h>

#include "base/error.h"
#include "sys/files.h"

namespace preheat::cli {

using base::ErrorKind;

void PrepareOutput(const std::string& path) {
  if (sys::IsFolder(path)) {
    throw base::MakeError(ErrorKind::kIo, "{}: is a folder; name a file to write", path);
  }
  const std::string folder = sys::ParentPath(path);
  try {
    sys::MakeDirs(folder);
  } catch (const base::Error& error) {
    const ErrorKind kind = error.kind() == ErrorKind::kNotFound ? ErrorKind::kIo : error.kind();
    throw base::MakeError(kind, "{}: cannot be written: {}; name another place", path, error.message());
  }
  if (::access(folder.c_str(), W_OK) != 0) {
    throw base::MakeError(ErrorKind::kAccessDenied,
                          "{}: cannot be written: {} may not be written to; name another place", path,
                          folder);
  }
}

}  // namespace preheat::cli
