#include "end_to_end/small_disk.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "sys/os_error.h"

namespace preheat::testing {
namespace {

// Root takes a mount name space as it is, another user one below a user name space in which nothing but
// mounting changes.
std::string OwnMounts() {
  const uid_t user = ::geteuid();
  const gid_t group = ::getegid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return "no mount name space: " + sys::OsErrorText(errno);
    }
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << user << " " << user << " 1";
    std::ofstream("/proc/self/gid_map") << group << " " << group << " 1";
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return "no mounts of our own: " + sys::OsErrorText(errno);
  }
  const sys::UniqueTempDir probe("preheat-disk");
  if (::mount("none", probe.path().c_str(), "tmpfs", 0, "size=4096") != 0) {
    return "no tmpfs may be mounted: " + sys::OsErrorText(errno);
  }
  ::umount2(probe.path().c_str(), MNT_DETACH);
  return "";
}

}  // namespace

std::string SmallDisk::WhyNot() {
  static const std::string reason = OwnMounts();
  return reason;
}

SmallDisk::SmallDisk(uint64_t size_bytes) {
  const std::string options = "size=" + std::to_string(size_bytes);
  if (::mount("none", path().c_str(), "tmpfs", 0, options.c_str()) != 0) {
    ADD_FAILURE() << "cannot mount " << path() << ": " << sys::OsErrorText(errno);
  }
}

SmallDisk::~SmallDisk() {
  ::umount2(path().c_str(), MNT_DETACH);
}

void SmallDisk::MakeReadOnly() {
  if (::mount("none", path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
    ADD_FAILURE() << "cannot make " << path() << " read-only: " << sys::OsErrorText(errno);
  }
}

}  // namespace preheat::testing
