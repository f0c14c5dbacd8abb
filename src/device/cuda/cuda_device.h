// One NVIDIA GPU. Steps run ahead of the host: kernels are launched into one stream, each allowed to start
// before the one before has ended (programmatic dependent launch), since every kernel generated for sm_90 or
// newer waits by itself before it reads what others made. A recorded step is a CUDA graph of such launches.
//
// The first launch of a Run has no such leave: it begins when all before has ended, so that kernels may read
// what earlier steps made at any time.
//
// Thread rule: one thread at a time, the one that made it or another; PlaceWeights' threads are its own.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/cuda/driver.h"
#include "device/cuda/targets.h"
#include "device/device.h"

namespace preheat::device {

// What `preheat devices` shows, without a context on the card.
struct CudaInfo {
  int ordinal = 0;
  std::string name;
  int capability = 0;  // times 10: 90
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_block = 0;
};
std::string CapabilityText(int capability);  // "9.0"
std::vector<CudaInfo> ListCudaDevices(const cuda::Driver& driver);
// One of them. Throws kDevice where there is no such ordinal.
CudaInfo FindCudaDevice(const cuda::Driver& driver, int ordinal);

class CudaDevice final : public Device {
 public:
  // Throws kDevice: as FindCudaDevice; a card that is taken, out of memory.
  CudaDevice(const cuda::Driver& driver, int ordinal);
  ~CudaDevice() override;

  std::string_view id() const override { return id_; }
  std::string name() const override { return info_.name; }
  std::string model() const override { return info_.name; }
  std::string Needs() const override { return kCudaNeeds; }
  std::vector<std::string> Targets() const override { return CudaTargets(info_.capability); }
  std::vector<std::string> PtxTargets() const override { return CudaPtxTargets(info_.capability); }
  int64_t memory_bytes() const override { return info_.memory_bytes; }
  int64_t cache_bytes() const override { return info_.l2_bytes; }
  int threads() const override { return info_.multiprocessors; }
  std::vector<int> ResidentClusters() const override;
  std::optional<GpuFacts> gpu() const override;
  void CheckTarget(std::string_view target) const override;
  std::unique_ptr<CodeModule> LoadCode(std::span<const std::span<const std::byte>> images) override;
  Buffer Allocate(size_t size_bytes) override;
  std::unique_ptr<Weights> PlaceWeights(std::vector<HostTensor> tensors) override;
  void Write(void* to, std::span<const std::byte> from) override;
  void Read(std::span<std::byte> to, const void* from) override;
  TensorMap EncodeTensorMap(const BoxTensor& tensor) const override;
  void ReserveScratch(size_t) override {}
  void Run(std::span<const Launch> launches) override;
  void Finish() override;
  void* library_stream() override { return stream_; }

  bool RunsAhead() const override { return true; }
  std::unique_ptr<Recording> Record(std::span<const Launch> launches) override;
  ph_ring* ring() override { return ring_; }
  ph_ring* ring_address() override { return ring_address_; }
  void SetRing(uint32_t count) override;
  void WaitForRing(uint32_t count) override;

  const CudaInfo& info() const { return info_; }
  const cuda::Driver& driver() const { return driver_; }
  // As Allocate, for memory that is filled at once.
  Buffer AllocateUncleared(size_t size_bytes);
  // The calling thread works with this card from now on.
  void MakeCurrent() const;

 private:
  // Holds nothing yet: so that what the other constructor got before an error is given back.
  CudaDevice(const cuda::Driver& driver, std::string id) : driver_(driver), id_(std::move(id)) {}

  class GraphRecording;

  void Enqueue(const Launch& launch, bool first);

  const cuda::Driver& driver_;
  CudaInfo info_;
  std::string id_;
  cuda::DeviceHandle device_ = 0;
  cuda::Context context_ = nullptr;
  cuda::Stream stream_ = nullptr;
  ph_ring* ring_ = nullptr;
  ph_ring* ring_address_ = nullptr;
};

}  // namespace preheat::device
