// What the processor, and the operating system on it, can do. A feature counts only where CPUID names it and
// XGETBV says that the OS saves its registers. Level names are those of the x86-64 psABI. Source: Intel SDM
// vol. 1 ch. 13 (XCR0) and vol. 2 CPUID; AMD APM vol. 3 app. E.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace preheat::sys {

struct CpuFeatures {
  // x86-64-v2 and v3.
  bool sse42 = false, popcnt = false, cx16 = false, ssse3 = false;
  bool avx = false, avx2 = false, fma = false, f16c = false, bmi1 = false, bmi2 = false, lzcnt = false,
       movbe = false;
  // x86-64-v4.
  bool avx512f = false, avx512bw = false, avx512cd = false, avx512dq = false, avx512vl = false;
  bool avx512bf16 = false, avx512vnni = false, avx512fp16 = false, avx_vnni = false;
  // AMX: CPUID and XCR0 allow it; a process must still ask the kernel (arch_prctl) before using tiles.
  bool amx_tile = false, amx_bf16 = false, amx_int8 = false;

  bool x86_64_v3() const;
  bool x86_64_v4() const;
};

struct CpuInfo {
  std::string vendor;  // "GenuineIntel", "AuthenticAMD"
  std::string name;    // "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", trimmed
  int family = 0, model = 0, stepping = 0;
  CpuFeatures features;
  // Data or unified cache sizes in bytes, as one core sees them; 0 where unknown.
  int64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;
};

// Read once, then cached; thread-safe.
const CpuInfo& ThisCpu();

// The compilation targets that run here, best first: "x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3".
std::vector<std::string> SupportedCpuTargets(const CpuFeatures& features);

// How many threads are worth starting: the CPUs that this process may use (scheduling affinity), and no more
// than the cgroup's CPU quota (v1 or v2, each level up to the root; a part of a CPU counts as one); at
// least 1.
int AvailableThreads();
// The numbers of the CPUs that this process may run on.
std::vector<int> AllowedCpus();

struct MemoryInfo {
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;
};
// Of the machine, or of the cgroup's limit where that is lower.
MemoryInfo SystemMemory();

}  // namespace preheat::sys
