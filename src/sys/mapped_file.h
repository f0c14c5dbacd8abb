// A whole file mapped read-only and shared with the page cache: weights are read where they lie, and every
// process that maps the same file shares one copy. Movable, not copyable; const use is thread-safe. If
// another process cuts the file short while it is mapped, reading the lost part raises SIGBUS: checkpoints
// and store entries are replaced by rename and never cut, so that an old mapping stays whole.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace preheat::sys {

enum class Advice {
  kWillNeed,    // start reading into the page cache now, return at once
  kSequential,  // will be read once, front to back
  kRandom,      // no read-ahead
  kPopulate,    // read and enter into this process's page tables now; blocks until done
};

class MappedFile {
 public:
  MappedFile() = default;
  // Throws kNotFound, kAccessDenied or kIo naming the path; a folder or another non-file is kIo. An empty
  // file maps to an empty span.
  static MappedFile Open(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }

  void Advise(Advice advice) const;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

// Advice for a part of a mapping, widened to whole pages. Advice that the kernel does not know is dropped
// silently: it changes speed only.
void AdviseRange(std::span<const std::byte> bytes, Advice advice);

// The share, 0 to 1, of the pages of `bytes` (part of a mapping) that is in the page cache; 1 for an empty
// span. Exact up to 2 MiB, beyond that from 512 pages evenly spread (standard error about 2%), in a fraction
// of a millisecond whatever the size. A file that belongs to others and that this user may not write reads as
// fully resident (the kernel hides it).
double ResidentFraction(std::span<const std::byte> bytes);

}  // namespace preheat::sys
