#include "sys/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <random>
#include <utility>

#include "base/error.h"
#include "sys/files.h"
#include "sys/os_error.h"

namespace preheat::sys {
namespace {

constexpr std::string_view kMark = ".tmp-";
constexpr size_t kRandomDigits = 16;

// Unique over processes and machines that share the folder: the open is exclusive, and a taken name is tried
// again.
std::string UniqueSuffix() {
  static std::atomic<uint64_t> counter{0};
  std::random_device random;
  return fmt::format("{}{:08x}{:08x}-{}", kMark, random(), random(), counter.fetch_add(1));
}

// A name that UniqueSuffix made, for the file `name` or, where that is empty, for any.
bool IsTemporaryOf(std::string_view file, std::string_view name) {
  const size_t mark = file.rfind(kMark);
  if (mark == std::string_view::npos || mark == 0 || (!name.empty() && file.substr(0, mark) != name))
    return false;
  const std::string_view suffix = file.substr(mark + kMark.size());
  if (suffix.size() < kRandomDigits + 2 || suffix[kRandomDigits] != '-') return false;
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::ranges::all_of(suffix.substr(0, kRandomDigits), hex) &&
         std::ranges::all_of(suffix.substr(kRandomDigits + 1), digit);
}

// A new file that nobody takes for abandoned; -1 where the name is taken, or was cleared away between making
// and locking it. File systems that know no locks do without: then nobody clears away either.
int CreateLocked(const std::string& temporary_path, const std::string& path) {
  const int fd = ::open(temporary_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0 && errno == EEXIST) return -1;
  if (fd < 0) throw OsError(errno, "cannot create", path);
  const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
  struct stat info;
  if (locked && ::fstat(fd, &info) == 0 && info.st_nlink > 0) return fd;
  ::close(fd);
  ::unlink(temporary_path.c_str());
  return -1;
}

// Its size where it was abandoned and is gone now, else 0.
uint64_t RemoveIfAbandoned(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return 0;
  struct stat info;
  uint64_t removed = 0;
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
      ::unlink(path.c_str()) == 0) {
    removed = static_cast<uint64_t>(info.st_size);
  }
  ::close(fd);
  return removed;
}

void WriteAll(int fd, std::span<const std::byte> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw OsError(errno, "cannot write", path);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

// The rename is on disk only when the folder is. Not every file system can sync a folder: best effort.
void SyncFolder(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)::fsync(fd);
  ::close(fd);
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  RemoveAbandonedFiles(ParentPath(path_), FileName(path_));
  constexpr int kAttempts = 16;
  for (int attempt = 0; attempt < kAttempts && fd_ < 0; ++attempt) {
    temporary_path_ = path_ + UniqueSuffix();
    fd_ = CreateLocked(temporary_path_, path_);
  }
  if (fd_ < 0) throw OsError(EEXIST, "cannot create", path_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::unlink(temporary_path_.c_str());
  ::close(fd_);
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  WriteAll(fd_, bytes, path_);
}

void AtomicFile::Write(std::string_view text) {
  Write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::Commit(Sync sync) {
  if (sync == Sync::kToDisk && ::fsync(fd_) != 0) throw OsError(errno, "cannot write", path_);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) throw OsError(errno, "cannot replace", path_);
  ::close(std::exchange(fd_, -1));
  if (sync == Sync::kToDisk) SyncFolder(ParentPath(path_));
}

uint64_t RemoveAbandonedFiles(const std::string& folder, std::string_view name) {
  uint64_t removed = 0;
  try {
    for (const std::string& file : ListDir(folder)) {
      if (IsTemporaryOf(file, name)) removed += RemoveIfAbandoned(JoinPath(folder, file));
    }
  } catch (const base::Error&) {
    // No such folder, or one that may not be listed: whoever writes there is told.
  }
  return removed;
}

}  // namespace preheat::sys
