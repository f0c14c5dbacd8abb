#include "device/null/null_device.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "sys/code_image.h"

namespace preheat::device {
namespace {

class NullCodeModule final : public CodeModule {
 public:
  explicit NullCodeModule(std::span<const std::span<const std::byte>> images) {
    for (const std::span<const std::byte> bytes : images) {
      auto& names = images_.emplace_back();
      for (const auto& entry : sys::ParseCodeImage(bytes).entries) names.emplace_back(entry.name);
    }
  }

  // The address of the name stands for the kernel: distinct, and never called.
  Kernel Entry(size_t image, std::string_view name) const override {
    if (image < images_.size()) {
      const auto found = std::ranges::find(images_[image], name);
      if (found != images_[image].end()) return {.device = const_cast<std::string*>(&*found)};
    }
    throw base::MakeError(base::ErrorKind::kCorrupt, "code image {}: it has no kernel {}", image, name);
  }

 private:
  std::vector<std::vector<std::string>> images_;
};

}  // namespace

std::unique_ptr<CodeModule> NullDevice::LoadCode(std::span<const std::span<const std::byte>> images) {
  return std::make_unique<NullCodeModule>(images);
}

Buffer NullDevice::Allocate(size_t size_bytes) {
  return AllocateHostMemory(size_bytes);
}

std::unique_ptr<Weights> NullDevice::PlaceWeights(std::vector<HostTensor> tensors) {
  return std::make_unique<HostWeights>(tensors);
}

void NullDevice::Write(void* to, std::span<const std::byte> from) {
  std::memcpy(to, from.data(), from.size());
}

void NullDevice::Read(std::span<std::byte> to, const void* from) {
  std::memcpy(to.data(), from, to.size());
}

void NullDevice::ReserveScratch(size_t bytes_per_thread) {
  scratch_bytes_ = std::max(scratch_bytes_, bytes_per_thread);
}

void NullDevice::Run(std::span<const Launch> launches) {
  ++runs_;
  launches_.insert(launches_.end(), launches.begin(), launches.end());
}

}  // namespace preheat::device
