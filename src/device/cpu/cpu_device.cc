#include "device/cpu/cpu_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "sys/code_image.h"
#include "sys/cpu.h"
#include "sys/executable_memory.h"

namespace preheat::device {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class CpuCodeModule final : public CodeModule {
 public:
  CpuCodeModule(sys::ExecutableMemory memory,
                std::vector<std::vector<std::pair<std::string, size_t>>> entries)
      : memory_(std::move(memory)), entries_(std::move(entries)) {}

  Kernel Entry(size_t image, std::string_view name) const override {
    if (image < entries_.size()) {
      for (const auto& [entry, offset] : entries_[image]) {
        if (entry == name) return {.host = memory_.FunctionAt<ph_kernel>(offset)};
      }
    }
    throw MakeError(ErrorKind::kCorrupt, "code image {}: it has no kernel {}", image, name);
  }

 private:
  sys::ExecutableMemory memory_;
  std::vector<std::vector<std::pair<std::string, size_t>>> entries_;  // per image: name, offset in memory_
};

}  // namespace

Buffer AllocateHostMemory(size_t size_bytes) {
  if (size_bytes == 0) return {};
  const size_t size = RoundUp(size_bytes, 4096);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw MakeError(ErrorKind::kDevice,
                    "cannot get {} bytes of memory; close other programs or use a smaller model", size_bytes);
  }
  // Advice only: a system without huge pages stays slower at first touch, not wrong.
  if (size >= kHugePage) (void)::madvise(data, size, MADV_HUGEPAGE);
  return Buffer(static_cast<std::byte*>(data), size_bytes,
                [](std::byte* memory, size_t bytes) { ::munmap(memory, RoundUp(bytes, 4096)); });
}

void CheckCpuTarget(std::string_view target, const sys::CpuFeatures& cpu) {
  struct Need {
    const char* name;
    bool there;
  };
  std::vector<Need> needs = {{"AVX2", cpu.avx2}, {"FMA", cpu.fma},   {"BMI1", cpu.bmi1},
                             {"BMI2", cpu.bmi2}, {"F16C", cpu.f16c}, {"x86-64-v3", cpu.x86_64_v3()}};
  if (target.starts_with("x86-64-v4")) {
    needs.insert(needs.end(), {{"AVX512F", cpu.avx512f},
                               {"AVX512BW", cpu.avx512bw},
                               {"AVX512DQ", cpu.avx512dq},
                               {"AVX512VL", cpu.avx512vl},
                               {"AVX512CD", cpu.avx512cd},
                               {"x86-64-v4", cpu.x86_64_v4()}});
  }
  if (target == "x86-64-v4+avx512bf16") {
    needs.push_back({"AVX512_BF16", cpu.avx512bf16});
  } else if (target != "x86-64-v4" && target != "x86-64-v3") {
    throw MakeError(ErrorKind::kUnsupported,
                    "code for target {}: this version of preheat cannot run it on a CPU", target);
  }
  for (const Need& need : needs) {
    if (need.there) continue;
    throw MakeError(ErrorKind::kIncompatible,
                    "code for target {}: this processor, or the system on it, lacks {}; build for one of the "
                    "targets that `preheat devices` shows here",
                    target, need.name);
  }
}

HostWeights::HostWeights(const std::vector<HostTensor>& tensors) {
  for (const HostTensor& tensor : tensors) addresses_.emplace(tensor.name, tensor.bytes.data());
}

const void* HostWeights::Address(std::string_view name) const {
  const auto found = addresses_.find(name);
  return found == addresses_.end() ? nullptr : found->second;
}

void CpuDevice::CheckTarget(std::string_view target) const {
  CheckCpuTarget(target, sys::ThisCpu().features);
}

std::string CpuDevice::name() const {
  return sys::ThisCpu().name;
}

std::string CpuDevice::model() const {
  const sys::CpuInfo& cpu = sys::ThisCpu();
  return fmt::format("{} family {} model {}", cpu.vendor, cpu.family, cpu.model);
}

std::vector<std::string> CpuDevice::Targets() const {
  return sys::SupportedCpuTargets(sys::ThisCpu().features);
}

int64_t CpuDevice::memory_bytes() const {
  return sys::SystemMemory().total_bytes;
}

std::unique_ptr<CodeModule> CpuDevice::LoadCode(std::span<const std::span<const std::byte>> images) {
  // All images in one segment: each of its own would cost two system calls.
  std::vector<std::byte> code;
  std::vector<std::vector<std::pair<std::string, size_t>>> entries;
  for (const std::span<const std::byte> bytes : images) {
    const sys::CodeImageView image = sys::ParseCodeImage(bytes);
    CheckTarget(image.target);
    code.resize(RoundUp(code.size(), image.alignment));
    auto& names = entries.emplace_back();
    for (const auto& entry : image.entries) names.emplace_back(entry.name, code.size() + entry.offset);
    code.insert(code.end(), image.body.begin(), image.body.end());
  }
  const sys::ImageSegment segment{0, code, code.size(), sys::Protection::kReadExecute};
  return std::make_unique<CpuCodeModule>(sys::ExecutableMemory::Map(std::span(&segment, 1)),
                                         std::move(entries));
}

Buffer CpuDevice::Allocate(size_t size_bytes) {
  return AllocateHostMemory(size_bytes);
}

std::unique_ptr<Weights> CpuDevice::PlaceWeights(std::vector<HostTensor> tensors) {
  return std::make_unique<HostWeights>(tensors);
}

void CpuDevice::Write(void* to, std::span<const std::byte> from) {
  std::memcpy(to, from.data(), from.size());
}

void CpuDevice::Read(std::span<std::byte> to, const void* from) {
  std::memcpy(to.data(), from, to.size());
}

}  // namespace preheat::device
