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

std::string PtxAdvice(std::string_view target) {
  return fmt::format("an artifact built with --targets {}: PTX, which the card's driver compiles", target);
}

std::vector<std::string> TargetsOrThrow(const Device& device) {
  std::vector<std::string> targets = device.Targets();
  if (targets.empty()) {
    const std::vector<std::string> ptx = device.PtxTargets();
    throw base::MakeError(base::ErrorKind::kIncompatible,
                          "{} ({}): it runs none of the targets that preheat compiles for: {} is needed{}",
                          device.name(), device.id(), device.Needs(),
                          ptx.empty() ? "" : fmt::format(", or {}", PtxAdvice(ptx.front())));
  }
  return targets;
}

}  // namespace preheat::device
