#include "device/device.h"

#include "base/check.h"
#include "base/error.h"

namespace preheat::device {

TensorMap Device::EncodeTensorMap(const BoxTensor&) const {
  throw base::MakeError(base::ErrorKind::kIncompatible,
                        "{}: a program with tensor maps, which it has no copy engine for", id());
}

std::unique_ptr<Recording> Device::Record(std::span<const Launch>) {
  CHECK(false);
}

void Device::SetRing(uint32_t) {
  CHECK(false);
}

void Device::WaitForRing(uint32_t) {
  CHECK(false);
}

std::vector<std::string> TargetsOrThrow(const Device& device) {
  std::vector<std::string> targets = device.Targets();
  if (targets.empty()) {
    throw base::MakeError(base::ErrorKind::kIncompatible,
                          "{} ({}): it runs none of the targets that preheat compiles for: {} is needed",
                          device.name(), device.id(), device.Needs());
  }
  return targets;
}

}  // namespace preheat::device
