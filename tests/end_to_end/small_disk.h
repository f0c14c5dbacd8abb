// A file system of a few KB that a test can fill, or make read-only also for root.
#pragma once

#include <cstdint>
#include <string>

#include "sys/env.h"

namespace preheat::testing {

class SmallDisk {
 public:
  // Why this process may not mount one; empty where it may. The first call gives the process a mount name
  // space of its own: what it mounts nobody else sees, and it is gone with the process.
  static std::string WhyNot();

  // REQUIRES: WhyNot() is empty.
  explicit SmallDisk(uint64_t size_bytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  void MakeReadOnly();
  std::string File(const std::string& name) const { return folder_.File(name); }
  const std::string& path() const { return folder_.path(); }

 private:
  sys::UniqueTempDir folder_{"preheat-disk"};
};

}  // namespace preheat::testing
