// Code images of cubins, loaded into a card: a driver's module each.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "device/cuda/cuda_device.h"

namespace preheat::device::cuda {

class LoadedModules final : public CodeModule {
 public:
  // As Device::LoadCode. `device` outlives it. What was loaded before an error is unloaded again.
  LoadedModules(const CudaDevice& device, std::span<const std::span<const std::byte>> images);
  ~LoadedModules() override;

  Kernel Entry(size_t image, std::string_view name) const override;

 private:
  explicit LoadedModules(const CudaDevice& device) : device_(device) {}

  const CudaDevice& device_;
  std::vector<Module> modules_;
  std::vector<std::map<std::string, Function, std::less<>>> entries_;  // by image
};

}  // namespace preheat::device::cuda
