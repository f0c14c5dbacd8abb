// Memory that stands for weights where only speed matters.
#pragma once

#include "device/device.h"

namespace preheat::compile {

// Filled once, used by all that a tuning session measures.
class WeightPool {
 public:
  static constexpr size_t kAlignment = 4096;  // of what Take gives

  explicit WeightPool(device::Device& device) : device_(device) {}
  // The next `bytes` of the pool, from its begin again where it is used up; grows where it is too small.
  void* Take(size_t bytes);
  // Begins anew: pointers from before are for a region that is done.
  void Reset(size_t bytes_needed);

 private:
  device::Device& device_;
  device::Buffer buffer_;
  size_t used_ = 0;
};

}  // namespace preheat::compile
