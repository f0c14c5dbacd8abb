// AvailableThreads, AllowedCpus and SystemMemory: what affinity and cgroups leave of the machine.
// Sources: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max), cgroup-v1/memory.rst,
// scheduler/sched-bwc.rst (cpu.cfs_quota_us), sched_setaffinity(2).
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "sys/cgroup.h"
#include "sys/cpu.h"
#include "sys/files.h"

namespace preheat::sys {
namespace {

std::optional<std::string> TryRead(const std::string& path) {
  try {
    return ReadFile(path);
  } catch (const base::Error&) {
    return std::nullopt;
  }
}

std::optional<int64_t> ParseNumber(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void Lower(std::optional<double>* limit, std::optional<double> other) {
  if (other && (!*limit || *other < **limit)) *limit = other;
}

std::optional<double> CpusV2(const std::string& folder) {
  const std::optional<std::string> text = TryRead(JoinPath(folder, "cpu.max"));
  if (!text) return std::nullopt;
  const size_t space = text->find(' ');
  const std::string_view view = *text;
  const auto quota = ParseNumber(view.substr(0, space));  // "max" is no number: no limit
  const auto period =
      space == std::string::npos ? std::optional<int64_t>(100'000) : ParseNumber(view.substr(space + 1));
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<double> CpusV1(const std::string& folder) {
  const auto quota_text = TryRead(JoinPath(folder, "cpu.cfs_quota_us"));
  const auto period_text = TryRead(JoinPath(folder, "cpu.cfs_period_us"));
  if (!quota_text || !period_text) return std::nullopt;
  const auto quota = ParseNumber(*quota_text), period = ParseNumber(*period_text);
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;  // -1: no limit
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

std::optional<double> MemoryLimit(const std::string& folder, const char* name) {
  const auto text = TryRead(JoinPath(folder, name));
  const auto bytes = text ? ParseNumber(*text) : std::nullopt;
  if (!bytes || *bytes <= 0) return std::nullopt;
  return static_cast<double>(*bytes);
}

// Calls visit(folder) for the group's folder and each of its parents up to the mount. A container often sees
// its own group at the mount's root while /proc names the host's path: the root is visited whatever the path.
template <typename Visit>
void ForEachLevel(const std::string& mount, std::string group, Visit visit) {
  while (!group.empty() && group != "/") {
    visit(mount + group);
    group = ParentPath(group);
    if (group == ".") break;
  }
  visit(mount);
}

// The line of /proc/self/cgroup for a v1 controller, or (empty name) the v2 line "0::/path".
std::optional<std::string> GroupPath(std::string_view table, std::string_view controller) {
  for (size_t begin = 0; begin < table.size();) {
    const size_t end = std::min(table.find('\n', begin), table.size());
    const std::string_view line = table.substr(begin, end - begin);
    begin = end + 1;
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view names = line.substr(first + 1, second - first - 1);
    const std::string padded = fmt::format(",{},", names);
    const bool match = controller.empty() ? names.empty()
                                          : padded.find(fmt::format(",{},", controller)) != std::string::npos;
    if (match) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

int64_t MemInfoBytes(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return 0;
  const size_t digits = text.find_first_of("0123456789", at);
  int64_t kib = 0;
  if (digits != std::string_view::npos) std::from_chars(text.data() + digits, text.data() + text.size(), kib);
  return kib * 1024;
}

}  // namespace

CgroupLimits ReadCgroupLimits(const std::string& root) {
  CgroupLimits limits;
  const auto table = TryRead(root + "/proc/self/cgroup");
  if (!table) return limits;
  const std::string mount = root + "/sys/fs/cgroup";
  if (const auto group = GroupPath(*table, "")) {
    for (const std::string& base : {mount, mount + "/unified"}) {
      ForEachLevel(base, *group, [&](const std::string& folder) {
        Lower(&limits.cpus, CpusV2(folder));
        Lower(&limits.memory_bytes, MemoryLimit(folder, "memory.max"));
      });
    }
  }
  if (const auto group = GroupPath(*table, "cpu")) {
    for (const char* base : {"/cpu", "/cpu,cpuacct"}) {
      ForEachLevel(mount + base, *group,
                   [&](const std::string& folder) { Lower(&limits.cpus, CpusV1(folder)); });
    }
  }
  if (const auto group = GroupPath(*table, "memory")) {
    ForEachLevel(mount + "/memory", *group, [&](const std::string& folder) {
      Lower(&limits.memory_bytes, MemoryLimit(folder, "memory.limit_in_bytes"));
    });
  }
  return limits;
}

int ThreadsFor(int allowed_cpus, const CgroupLimits& limits) {
  int threads = std::max(allowed_cpus, 1);
  if (limits.cpus) threads = std::min(threads, static_cast<int>(std::ceil(std::min(*limits.cpus, 1e6))));
  return std::max(threads, 1);
}

std::vector<int> AllowedCpus() {
  std::vector<int> cpus;
  // The mask must be as large as the kernel's; machines of more than 1024 CPUs exist.
  for (int count = 1024; count <= 1 << 20 && cpus.empty(); count *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(count));
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(count));
    if (::sched_getaffinity(0, bytes, set) == 0) {
      for (int cpu = 0; cpu < count; ++cpu) {
        if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, set)) cpus.push_back(cpu);
      }
    }
    CPU_FREE(set);
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

int AvailableThreads() {
  return ThreadsFor(static_cast<int>(AllowedCpus().size()), ReadCgroupLimits(""));
}

MemoryInfo SystemMemory() {
  const std::string text = TryRead("/proc/meminfo").value_or("");
  MemoryInfo memory;
  memory.total_bytes = MemInfoBytes(text, "MemTotal:");
  memory.available_bytes = MemInfoBytes(text, "MemAvailable:");
  if (const auto limit = ReadCgroupLimits("").memory_bytes;
      limit && *limit < static_cast<double>(memory.total_bytes)) {
    memory.total_bytes = static_cast<int64_t>(*limit);
    memory.available_bytes = std::min(memory.available_bytes, memory.total_bytes);
  }
  return memory;
}

}  // namespace preheat::sys
