#include "cli/output_file.h"

#include "base/error.h"
#include "sys/files.h"

namespace preheat::cli {

using base::ErrorKind;

void PrepareOutput(const std::string& path) {
  if (sys::IsFolder(path)) {
    throw base::MakeError(ErrorKind::kIo, "{}: is a folder; name a file to write", path);
  }
  try {
    sys::MakeDirs(sys::ParentPath(path));
  } catch (const base::Error& error) {
    const ErrorKind kind = error.kind() == ErrorKind::kNotFound ? ErrorKind::kIo : error.kind();
    throw base::MakeError(kind, "{}: cannot be written: {}; name another place", path, error.message());
  }
}

}  // namespace preheat::cli
