// What the cgroups of this process allow: the part of cpu.h that tests drive with folders of their own.
#pragma once

#include <optional>
#include <string>

namespace preheat::sys {

struct CgroupLimits {
  std::optional<double> cpus;  // quota / period; nullopt: no limit
  std::optional<double> memory_bytes;
};

// Reads ROOT/proc/self/cgroup and the groups under ROOT/sys/fs/cgroup (v1, v2 or both); the lowest limit of
// all levels counts. ROOT "" is the system's. Unreadable or malformed files mean no limit.
CgroupLimits ReadCgroupLimits(const std::string& root);

// The CPUs rounded up, no more than `allowed_cpus`, at least 1.
int ThreadsFor(int allowed_cpus, const CgroupLimits& limits);

}  // namespace preheat::sys
