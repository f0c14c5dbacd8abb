// Files and folders. Errors name the path and carry the system's text: kNotFound, kAccessDenied (no right, or
// a read-only file system), kIo (anything else; a full disk says so). Free functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::sys {

struct FileInfo {
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;  // since 1970
  bool is_folder = false;
  bool is_file = false;
};

// A missing path is nullopt; links are followed; another failure throws.
std::optional<FileInfo> GetFileInfo(const std::string& path);
// Also false where a parent may not be searched. Links are followed.
bool Exists(const std::string& path);
bool IsFolder(const std::string& path);

// The whole file. Files over `limit_bytes` are refused (kCorrupt): for files whose sane size is known.
std::string ReadFile(const std::string& path, uint64_t limit_bytes = UINT64_MAX);

// Bytes that belong to this process alone.
struct OwnedBytes {
  std::unique_ptr<std::byte[]> data;
  size_t size = 0;

  std::span<const std::byte> span() const { return {data.get(), size}; }
};
// As ReadFile, for big regular files: the memory is not zeroed first, which would double what a start pays
// for its pages. A file that changes its size while it is read is kCorrupt.
OwnedBytes ReadFileBytes(const std::string& path);

// The whole file by way of an AtomicFile (sys/atomic_file.h): after a crash there is the old one or the new
// one.
void WriteFileAtomic(const std::string& path, std::string_view text);
void WriteFileAtomic(const std::string& path, std::span<const std::byte> bytes);

// A new file of a known size, written at any offset and from many threads at once. Reserves its space first,
// so that a full disk shows before the work. Not atomic: for big output that is removed as a whole when it
// fails.
class SizedFile {
 public:
  SizedFile(std::string path, uint64_t size_bytes);
  ~SizedFile();
  SizedFile(const SizedFile&) = delete;
  SizedFile& operator=(const SizedFile&) = delete;

  void WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  void Close();

 private:
  std::string path_;
  int fd_ = -1;
};

// Makes the folder and its missing parents; there already is fine.
void MakeDirs(const std::string& path);
void RemoveFile(const std::string& path);  // missing is fine
// The folder and everything in it; links in it are removed, not followed. Missing is fine.
void RemoveTree(const std::string& path);
// Names (not paths) in the folder, sorted; without "." and "..".
std::vector<std::string> ListDir(const std::string& path);
void Rename(const std::string& from, const std::string& to);
// Sets the modification time to now: how the store remembers the last use.
void Touch(const std::string& path);

// Bytes that this user may still write on the file system that holds `path`, or its nearest existing parent.
uint64_t DiskFree(const std::string& path);

// "folder/name", with one slash between.
std::string JoinPath(std::string_view folder, std::string_view name);
// The part before the last slash: "." where there is none.
std::string ParentPath(std::string_view path);
// The part behind the last slash that is not at the end: "b" of "a/b" and of "a/b/".
std::string FileName(std::string_view path);

}  // namespace preheat::sys
