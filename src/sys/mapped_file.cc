#include "sys/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "sys/os_error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14
#endif

namespace preheat::sys {
namespace {

// Every page of a span up to 2 MiB; beyond that the standard error is at most sqrt(1/4 / 512) = 2.2%.
constexpr size_t kResidentSamples = 512;

struct Pages {
  std::byte* begin;
  size_t bytes;
};

Pages WholePages(std::span<const std::byte> bytes) {
  static const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size() + page - 1) / page * page;
  return {reinterpret_cast<std::byte*>(begin), end - begin};
}

}  // namespace

MappedFile MappedFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw OsError(errno, "cannot open", path);
  struct stat info;
  int failed = ::fstat(fd, &info) != 0 ? errno : 0;
  if (failed == 0 && !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw base::MakeError(base::ErrorKind::kIo, "cannot map: {}: not a regular file; name a file", path);
  }
  void* address = nullptr;
  if (failed == 0 && info.st_size > 0) {
    address = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) failed = errno;
  }
  ::close(fd);
  if (failed != 0) throw OsError(failed, "cannot map", path);
  MappedFile file;
  file.path_ = path;
  file.bytes_ = {static_cast<const std::byte*>(address), static_cast<size_t>(info.st_size)};
  return file;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void MappedFile::Advise(Advice advice) const {
  AdviseRange(bytes_, advice);
}

void AdviseRange(std::span<const std::byte> bytes, Advice advice) {
  if (bytes.empty()) return;
  int value = 0;
  switch (advice) {
    case Advice::kWillNeed:
      value = MADV_WILLNEED;
      break;
    case Advice::kSequential:
      value = MADV_SEQUENTIAL;
      break;
    case Advice::kRandom:
      value = MADV_RANDOM;
      break;
    case Advice::kPopulate:
      value = MADV_POPULATE_READ;
      break;
  }
  const Pages pages = WholePages(bytes);
  (void)::madvise(pages.begin, pages.bytes, value);
}

double ResidentFraction(std::span<const std::byte> bytes) {
  if (bytes.empty()) return 1.0;
  const Pages pages = WholePages(bytes);
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t count = pages.bytes / page;
  // The kernel takes about a microsecond a page: seconds for a large model. So ask for some, evenly spread.
  const size_t samples = std::min(count, kResidentSamples);
  size_t counted = 0;
  size_t present = 0;
  for (size_t i = 0; i < samples; ++i) {
    const size_t index = samples == count ? i : i * (count - 1) / (samples - 1);
    unsigned char flags = 0;
    if (::mincore(pages.begin + index * page, page, &flags) != 0) continue;
    ++counted;
    present += flags & 1;
  }
  return counted == 0 ? 0.0 : static_cast<double>(present) / static_cast<double>(counted);
}

}  // namespace preheat::sys
