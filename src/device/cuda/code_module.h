// Code images loaded into a card: a driver's module each. A cubin is loaded as it is. PTX is compiled by the
// driver; that takes seconds, and so it is told on stderr, once a LoadCode. The driver may keep what it made
// in a cache of its own, which we neither rely on nor see.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "device/cuda/cuda_device.h"
#include "sys/code_image.h"

namespace preheat::device::cuda {

// What the Kernel of a card points to.
struct LoadedKernel {
  Function function = nullptr;
  bool waits = false;  // by itself for those before it, so that it may start before they have ended
};

class LoadedModules final : public CodeModule {
 public:
  // As Device::LoadCode. `device` outlives it. What was loaded before an error is unloaded again.
  LoadedModules(const CudaDevice& device, std::span<const std::span<const std::byte>> images);
  ~LoadedModules() override;

  Kernel Entry(size_t image, std::string_view name) const override;

 private:
  explicit LoadedModules(const CudaDevice& device) : device_(device) {}

  void Load(const sys::CodeImageView& image);
  Module Compile(const sys::CodeImageView& image) const;

  const CudaDevice& device_;
  std::vector<Module> modules_;
  std::vector<std::map<std::string, LoadedKernel, std::less<>>> entries_;  // by image
};

}  // namespace preheat::device::cuda
