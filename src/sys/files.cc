#include "sys/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "sys/atomic_file.h"
#include "sys/os_error.h"

namespace preheat::sys {
namespace {

namespace fs = std::filesystem;

// A file or whatever else can be read but folders.
class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) throw OsError(errno, "cannot open", path);
    int failed = ::fstat(fd_, &info_) != 0 ? errno : 0;
    if (failed == 0 && S_ISDIR(info_.st_mode)) failed = EISDIR;
    if (failed == 0) return;
    ::close(fd_);
    throw OsError(failed, "cannot read", path);
  }
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const struct stat& info() const { return info_; }
  // At most `size` of the bytes that come next; 0 at the end.
  size_t Read(void* data, size_t size) const {
    for (;;) {
      const ssize_t got = ::read(fd_, data, size);
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) throw OsError(errno, "cannot read", path_);
    }
  }

 private:
  const std::string& path_;
  int fd_;
  struct stat info_;
};

}  // namespace

std::optional<FileInfo> GetFileInfo(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
    throw OsError(errno, "cannot look at", path);
  }
  FileInfo result;
  result.size_bytes = static_cast<uint64_t>(info.st_size);
  result.modified_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  result.is_folder = S_ISDIR(info.st_mode);
  result.is_file = S_ISREG(info.st_mode);
  return result;
}

bool Exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

bool IsFolder(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string ReadFile(const std::string& path, uint64_t limit_bytes) {
  const OpenFile file(path);
  const struct stat& info = file.info();
  // The size is a hint only: files of /proc say 0, and a file may grow meanwhile.
  std::string text;
  size_t used = 0;
  size_t want = static_cast<size_t>(info.st_size) + 1;
  for (;;) {
    if (used > limit_bytes || (S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) > limit_bytes)) {
      throw base::MakeError(base::ErrorKind::kCorrupt,
                            "cannot read: {}: larger than {} bytes, which no such file is", path,
                            limit_bytes);
    }
    if (used == text.size()) text.resize(std::max(want, used + used / 2 + 4096));
    const size_t got = file.Read(text.data() + used, text.size() - used);
    if (got == 0) break;
    used += got;
  }
  text.resize(used);
  return text;
}

OwnedBytes ReadFileBytes(const std::string& path) {
  const OpenFile file(path);
  OwnedBytes bytes;
  bytes.size = static_cast<size_t>(file.info().st_size);
  // One byte more, so that a file that grows meanwhile is found out.
  bytes.data = std::make_unique_for_overwrite<std::byte[]>(bytes.size + 1);
  size_t used = 0;
  while (used <= bytes.size) {
    const size_t got = file.Read(bytes.data.get() + used, bytes.size + 1 - used);
    if (got == 0) break;
    used += got;
  }
  if (used != bytes.size) {
    throw base::MakeError(base::ErrorKind::kCorrupt, "cannot read: {}: its size changed meanwhile; try again",
                          path);
  }
  return bytes;
}

void WriteFileAtomic(const std::string& path, std::span<const std::byte> bytes) {
  AtomicFile file(path);
  file.Write(bytes);
  file.Commit();
}

void WriteFileAtomic(const std::string& path, std::string_view text) {
  WriteFileAtomic(path, std::as_bytes(std::span(text.data(), text.size())));
}

SizedFile::SizedFile(std::string path, uint64_t size_bytes) : path_(std::move(path)) {
  // Asked first: reserving more than there is takes all there is until it fails, and every other process on
  // the machine finds the disk full meanwhile.
  if (size_bytes > DiskFree(path_)) throw OsError(ENOSPC, "cannot reserve space for", path_);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) throw OsError(errno, "cannot create", path_);
  int failed = 0;
  if (size_bytes > 0 && ::fallocate(fd_, 0, 0, static_cast<off_t>(size_bytes)) != 0) failed = errno;
  // File systems that cannot reserve still get the right length.
  if (failed == EOPNOTSUPP || failed == ENOSYS || failed == EINVAL) {
    failed = ::ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0 ? errno : 0;
  }
  if (failed == 0) return;
  ::close(fd_);
  ::unlink(path_.c_str());
  throw OsError(failed, "cannot reserve space for", path_);
}

SizedFile::~SizedFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SizedFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw OsError(errno, "cannot write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

void SizedFile::Close() {
  if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0) throw OsError(errno, "cannot write", path_);
}

void MakeDirs(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw OsError(error.value(), "cannot make folder", path);
  if (!IsFolder(path)) throw OsError(ENOTDIR, "cannot make folder", path);
}

void RemoveFile(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw OsError(errno, "cannot remove", path);
}

void RemoveTree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) throw OsError(error.value(), "cannot remove", path);
}

std::vector<std::string> ListDir(const std::string& path) {
  std::error_code error;
  fs::directory_iterator iterator(path, error);
  std::vector<std::string> names;
  for (; !error && iterator != fs::directory_iterator(); iterator.increment(error)) {
    names.push_back(iterator->path().filename().string());
  }
  if (error) throw OsError(error.value(), "cannot list", path);
  std::sort(names.begin(), names.end());
  return names;
}

void Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw OsError(errno, fmt::format("cannot rename {} to", from), to);
}

void Touch(const std::string& path) {
  if (::utimensat(AT_FDCWD, path.c_str(), nullptr, 0) != 0) throw OsError(errno, "cannot touch", path);
}

uint64_t DiskFree(const std::string& path) {
  std::string place = path;
  struct statvfs info;
  while (::statvfs(place.c_str(), &info) != 0) {
    const int failed = errno;
    const std::string parent = ParentPath(place);
    if ((failed != ENOENT && failed != ENOTDIR) || parent == place)
      throw OsError(failed, "cannot look at", path);
    place = parent;
  }
  return uint64_t{info.f_bavail} * info.f_frsize;
}

std::string JoinPath(std::string_view folder, std::string_view name) {
  if (folder.empty()) return std::string(name);
  return fmt::format("{}{}{}", folder, folder.ends_with('/') ? "" : "/", name);
}

std::string ParentPath(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

std::string FileName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return std::string(path.substr(path.find_last_of('/') + 1));
}

}  // namespace preheat::sys
