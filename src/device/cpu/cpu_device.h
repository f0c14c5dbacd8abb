// The CPU that this process runs on. Thread rule: one caller of Run at a time; the rest is thread-safe.
#pragma once

#include <map>

#include "device/cpu/thread_pool.h"
#include "device/device.h"
#include "sys/cpu.h"

namespace preheat::device {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const ThreadPoolOptions& options = {}) : pool_(options) {}

  std::string_view id() const override { return "cpu"; }
  std::string name() const override;
  std::string model() const override;  // vendor, family, model
  std::string Needs() const override { return "an x86-64-v3 processor (AVX2, FMA)"; }
  std::vector<std::string> Targets() const override;
  int64_t memory_bytes() const override;
  int64_t cache_bytes() const override { return sys::ThisCpu().l3_bytes; }
  int threads() const override { return pool_.threads(); }
  std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) override;
  void CheckTarget(std::string_view target) const override;
  Buffer Allocate(size_t size_bytes) override;
  std::unique_ptr<Weights> PlaceWeights(std::vector<HostTensor> tensors) override;
  void Write(void* to, std::span<const std::byte> from) override;
  void Read(std::span<std::byte> to, const void* from) override;
  void ReserveScratch(size_t bytes_per_thread) override { pool_.ReserveScratch(bytes_per_thread); }
  void Run(std::span<const Launch> launches) override { pool_.Run(launches); }

  ThreadPool& pool() { return pool_; }

 private:
  ThreadPool pool_;
};

// Throws kIncompatible naming what `target` needs and a processor of these features (or its OS) lacks,
// kUnsupported for a name that no version of preheat knows on a CPU.
void CheckCpuTarget(std::string_view target, const sys::CpuFeatures& cpu);

// Page-aligned zeroed memory, on huge pages where it is big and the system has them.
Buffer AllocateHostMemory(size_t size_bytes);

// Tensors that stay where they are in the host's memory.
class HostWeights final : public Weights {
 public:
  explicit HostWeights(const std::vector<HostTensor>& tensors);
  const void* Address(std::string_view name) const override;
  void Wait() override {}

 private:
  std::map<std::string, const std::byte*, std::less<>> addresses_;
};

}  // namespace preheat::device
