#include "sys/cpu.h"

#include <cpuid.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace preheat::sys {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the processor has no such leaf.
Registers CpuId(uint32_t leaf, uint32_t subleaf = 0) {
  Registers r;
  const uint32_t highest = __get_cpuid_max(leaf & 0x80000000u, nullptr);
  if (highest != 0 && leaf <= highest) __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return r;
}

constexpr bool Bit(uint32_t value, int bit) {
  return ((value >> bit) & 1u) != 0;
}

// Which register sets the OS saves (XCR0); 0 where it has not turned XSAVE on.
uint64_t OsSavedState(const Registers& leaf1) {
  if (!Bit(leaf1.ecx, 27)) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

CpuFeatures ReadFeatures() {
  const Registers leaf1 = CpuId(1);
  const Registers leaf7 = CpuId(7);
  const Registers leaf7_1 = leaf7.eax >= 1 ? CpuId(7, 1) : Registers{};
  const Registers extended = CpuId(0x80000001u);
  const uint64_t saved = OsSavedState(leaf1);
  const bool os_avx = (saved & 0x6) == 0x6;                 // XMM, YMM
  const bool os_avx512 = os_avx && (saved & 0xe0) == 0xe0;  // opmask, ZMM0-15 upper halves, ZMM16-31
  const bool os_amx = (saved & 0x60000) == 0x60000;         // XTILECFG, XTILEDATA

  CpuFeatures f;
  f.ssse3 = Bit(leaf1.ecx, 9);
  f.cx16 = Bit(leaf1.ecx, 13);
  f.sse42 = Bit(leaf1.ecx, 20);
  f.movbe = Bit(leaf1.ecx, 22);
  f.popcnt = Bit(leaf1.ecx, 23);
  f.lzcnt = Bit(extended.ecx, 5);
  f.bmi1 = Bit(leaf7.ebx, 3);
  f.bmi2 = Bit(leaf7.ebx, 8);
  f.avx = os_avx && Bit(leaf1.ecx, 28);
  f.fma = os_avx && Bit(leaf1.ecx, 12);
  f.f16c = os_avx && Bit(leaf1.ecx, 29);
  f.avx2 = os_avx && Bit(leaf7.ebx, 5);
  f.avx_vnni = os_avx && Bit(leaf7_1.eax, 4);
  f.avx512f = os_avx512 && Bit(leaf7.ebx, 16);
  f.avx512dq = os_avx512 && Bit(leaf7.ebx, 17);
  f.avx512cd = os_avx512 && Bit(leaf7.ebx, 28);
  f.avx512bw = os_avx512 && Bit(leaf7.ebx, 30);
  f.avx512vl = os_avx512 && Bit(leaf7.ebx, 31);
  f.avx512vnni = os_avx512 && Bit(leaf7.ecx, 11);
  f.avx512fp16 = os_avx512 && Bit(leaf7.edx, 23);
  f.avx512bf16 = os_avx512 && Bit(leaf7_1.eax, 5);
  f.amx_bf16 = os_amx && Bit(leaf7.edx, 22);
  f.amx_tile = os_amx && Bit(leaf7.edx, 24);
  f.amx_int8 = os_amx && Bit(leaf7.edx, 25);
  return f;
}

std::string Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \0");
  if (begin == std::string_view::npos) return "";
  text = text.substr(begin, text.find('\0', begin) - begin);
  return std::string(text.substr(0, text.find_last_not_of(' ') + 1));
}

std::string BrandString() {
  if (CpuId(0x80000000u).eax < 0x80000004u) return "unknown x86-64 processor";
  std::array<char, 48> text{};
  for (uint32_t i = 0; i < 3; ++i) {
    const Registers r = CpuId(0x80000002u + i);
    std::memcpy(text.data() + 16 * i, &r, sizeof(r));
  }
  return Trimmed(std::string_view(text.data(), text.size()));
}

// Intel's leaf 4 and AMD's 0x8000001D describe one cache a subleaf, in the same layout.
void ReadCaches(CpuInfo* cpu) {
  const bool amd = cpu->vendor == "AuthenticAMD" || cpu->vendor == "HygonGenuine";
  const uint32_t leaf = amd ? 0x8000001du : 4u;
  constexpr uint32_t kMostCaches = 16;
  for (uint32_t i = 0; i < kMostCaches; ++i) {
    const Registers r = CpuId(leaf, i);
    const uint32_t type = r.eax & 0x1fu;  // 0 none, 1 data, 2 instruction, 3 unified
    if (type == 0) return;
    const int64_t ways = (r.ebx >> 22) + 1, partitions = ((r.ebx >> 12) & 0x3ffu) + 1,
                  line = (r.ebx & 0xfffu) + 1;
    const int64_t bytes = ways * partitions * line * (int64_t{r.ecx} + 1);
    const uint32_t level = (r.eax >> 5) & 7u;
    if (level == 1 && type == 1) cpu->l1d_bytes = bytes;
    if (level == 2 && type != 2) cpu->l2_bytes = bytes;
    if (level == 3 && type != 2) cpu->l3_bytes = bytes;
  }
}

CpuInfo ReadCpu() {
  CpuInfo cpu;
  const Registers leaf0 = CpuId(0);
  std::array<char, 12> vendor{};
  std::memcpy(vendor.data(), &leaf0.ebx, 4);
  std::memcpy(vendor.data() + 4, &leaf0.edx, 4);
  std::memcpy(vendor.data() + 8, &leaf0.ecx, 4);
  cpu.vendor.assign(vendor.data(), vendor.size());
  cpu.name = BrandString();
  const uint32_t signature = CpuId(1).eax;
  const uint32_t base_family = (signature >> 8) & 0xfu;
  cpu.stepping = static_cast<int>(signature & 0xfu);
  cpu.family = static_cast<int>(base_family + (base_family == 0xf ? (signature >> 20) & 0xffu : 0u));
  cpu.model = static_cast<int>((signature >> 4) & 0xfu);
  if (base_family == 0x6 || base_family == 0xf)
    cpu.model += static_cast<int>(((signature >> 16) & 0xfu) << 4);
  cpu.features = ReadFeatures();
  ReadCaches(&cpu);
  return cpu;
}

}  // namespace

bool CpuFeatures::x86_64_v3() const {
  return sse42 && ssse3 && popcnt && cx16 && avx && avx2 && fma && f16c && bmi1 && bmi2 && lzcnt && movbe;
}

bool CpuFeatures::x86_64_v4() const {
  return x86_64_v3() && avx512f && avx512bw && avx512cd && avx512dq && avx512vl;
}

const CpuInfo& ThisCpu() {
  static const CpuInfo cpu = ReadCpu();
  return cpu;
}

std::vector<std::string> SupportedCpuTargets(const CpuFeatures& features) {
  std::vector<std::string> targets;
  if (features.x86_64_v4() && features.avx512bf16) targets.push_back("x86-64-v4+avx512bf16");
  if (features.x86_64_v4()) targets.push_back("x86-64-v4");
  if (features.x86_64_v3()) targets.push_back("x86-64-v3");
  return targets;
}

}  // namespace preheat::sys
