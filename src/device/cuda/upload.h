// Weights on their way from the page cache to a card: mapped file -> pinned pieces -> card, by several
// threads, beside the rest of a start.
//
// Copying from the page cache is what takes longest: one thread reaches about 5 GB/s, twelve 30 to 40, a
// card's link about 55. Pinning memory costs 0.6 to 1.4 s a GB, so that the pieces are few and small. All
// tensors lie in one allocation, each at a multiple of 256 bytes, in the order given.
#pragma once

#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device/cuda/cuda_device.h"

namespace preheat::device {

class CudaWeights final : public Weights {
 public:
  // Starts bringing them; the tensors' bytes stay where they are until Wait has returned or this is gone.
  CudaWeights(CudaDevice& device, std::vector<HostTensor> tensors);
  ~CudaWeights() override;

  const void* Address(std::string_view name) const override;
  void Wait() override;

 private:
  // A part of a tensor that one thread copies at once.
  struct Piece {
    const std::byte* from;
    size_t to;  // offset in the slab
    size_t bytes;
  };

  void CopyPieces();

  CudaDevice& device_;
  Buffer slab_;
  std::map<std::string, size_t, std::less<>> offsets_;
  std::vector<Piece> pieces_;
  std::atomic<size_t> next_{0};
  std::vector<std::thread> threads_;
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace preheat::device
