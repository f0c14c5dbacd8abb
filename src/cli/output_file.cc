#include "cli/output_file.h"

#include <unistd.h>

#include "base/error.h"
#include "sys/files.h"

namespace preheat::cli {

using base::ErrorKind;

namespace {

// Makes `folder` so that `path`, it or a file in it, can be written.
void MakeWritable(const std::string& folder, const std::string& path) {
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

}  // namespace

void PrepareOutput(const std::string& path) {
  if (sys::IsFolder(path)) {
    throw base::MakeError(ErrorKind::kIo, "{}: is a folder; name a file to write", path);
  }
  MakeWritable(sys::ParentPath(path), path);
}

void PrepareOutputFolder(const std::string& folder) {
  MakeWritable(folder, folder);
}

}  // namespace preheat::cli
