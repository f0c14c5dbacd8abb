// A device that runs nothing and records what it was asked to run: for tests of sessions and programs, and
// the pattern for a new device. LoadCode parses images and accepts any target.
#pragma once

#include "device/device.h"

namespace preheat::device {

class NullDevice final : public Device {
 public:
  std::string_view id() const override { return "null"; }
  std::string name() const override { return "null device"; }
  std::string model() const override { return "null"; }
  std::string Needs() const override { return "nothing"; }
  std::vector<std::string> Targets() const override {
    return {"x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3"};
  }
  int64_t memory_bytes() const override { return 0; }
  int64_t cache_bytes() const override { return 0; }
  int threads() const override { return 1; }
  std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) override;
  void CheckTarget(std::string_view) const override {}
  Buffer Allocate(size_t size_bytes) override;
  std::unique_ptr<Weights> PlaceWeights(std::vector<HostTensor> tensors) override;
  void Write(void* to, std::span<const std::byte> from) override;
  void Read(std::span<std::byte> to, const void* from) override;
  void ReserveScratch(size_t bytes_per_thread) override;
  void Run(std::span<const Launch> launches) override;

  // Every launch so far, in order. Kernels are distinct per name and image, and must not be called.
  const std::vector<Launch>& launches() const { return launches_; }
  int64_t runs() const { return runs_; }
  size_t scratch_bytes() const { return scratch_bytes_; }

 private:
  std::vector<Launch> launches_;
  int64_t runs_ = 0;
  size_t scratch_bytes_ = 0;
};

}  // namespace preheat::device
