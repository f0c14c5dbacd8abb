// The CPU that this process runs on. Thread rule: one caller of Run at a time; the rest is thread-safe.
#pragma once

#include "device/cpu/thread_pool.h"
#include "device/device.h"
#include "sys/cpu.h"

namespace preheat::device {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const ThreadPoolOptions& options = {}) : pool_(options) {}

  std::string_view id() const override { return "cpu"; }
  std::string name() const override;
  std::vector<std::string> Targets() const override;
  int64_t memory_bytes() const override;
  int threads() const override { return pool_.threads(); }
  std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) override;
  Buffer Allocate(size_t size_bytes) override;
  void ReserveScratch(size_t bytes_per_thread) override { pool_.ReserveScratch(bytes_per_thread); }
  void Run(std::span<const Launch> launches) override { pool_.Run(launches); }

  ThreadPool& pool() { return pool_; }

 private:
  ThreadPool pool_;
};

// As CheckCpuTarget(target), for a processor of these features.
void CheckCpuTarget(std::string_view target, const sys::CpuFeatures& cpu);

// Page-aligned zeroed memory, on huge pages where it is big and the system has them.
Buffer AllocateHostMemory(size_t size_bytes);

}  // namespace preheat::device
