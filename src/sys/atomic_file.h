// A file that appears under its name only when whole.
//
// On disk: the bytes go to NAME.tmp-XXXXXXXXXXXXXXXX-N in the same folder (16 hex digits, a counter), which
// is renamed to NAME. So a crash at any moment leaves the old file or the new one. While its writer lives the
// temporary file is locked (flock); one that is not locked was left by a process that was killed, and goes
// with the next file of that name. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace preheat::sys {

enum class Sync {
  kToDisk,  // the new file is there after a power cut, too
  kNone,    // a power cut may leave an empty file: for what is checked when it is read
};

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();  // without a Commit nothing is left
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text);
  void Commit(Sync sync = Sync::kToDisk);

  // Where the bytes are until Commit.
  const std::string& temporary_path() const { return temporary_path_; }

 private:
  std::string path_;
  std::string temporary_path_;
  int fd_ = -1;
};

// Removes temporary files of dead writers in `folder`: those of the file `name`, or of any file where it is
// empty. Returns how many bytes they had. Never throws: what cannot be listed or removed stays.
uint64_t RemoveAbandonedFiles(const std::string& folder, std::string_view name = "");

}  // namespace preheat::sys
