#include "device/cuda/code_module.h"

#include "base/error.h"
#include "sys/code_image.h"

namespace preheat::device::cuda {

LoadedModules::LoadedModules(const CudaDevice& device, std::span<const std::span<const std::byte>> images)
    : LoadedModules(device) {
  const Driver& driver = device.driver();
  for (const std::span<const std::byte> bytes : images) {
    const sys::CodeImageView image = sys::ParseCodeImage(bytes);
    device.CheckTarget(image.target);
    Module module = nullptr;
    driver.Check(driver.ModuleLoadData(&module, image.body.data()), "loading machine code");
    modules_.push_back(module);
    auto& entries = entries_.emplace_back();
    for (const auto& entry : image.entries) {
      const std::string name(entry.name);
      Function function = nullptr;
      driver.Check(driver.ModuleGetFunction(&function, module, name.c_str()), "finding kernel " + name);
      // As much as a block may have: a launch says how much it takes.
      driver.Check(driver.FuncSetAttribute(function, kMaxDynamicSharedBytes,
                                           static_cast<int>(device.info().shared_bytes_per_block)),
                   "preparing kernel " + name);
      entries.emplace(name, function);
    }
  }
}

LoadedModules::~LoadedModules() {
  device_.MakeCurrent();
  for (Module module : modules_) (void)device_.driver().ModuleUnload(module);
}

Kernel LoadedModules::Entry(size_t image, std::string_view name) const {
  if (image < entries_.size()) {
    const auto found = entries_[image].find(name);
    if (found != entries_[image].end()) return {.device = found->second};
  }
  throw base::MakeError(base::ErrorKind::kCorrupt, "code image {}: it has no kernel {}", image, name);
}

}  // namespace preheat::device::cuda
