// The device that a user names: the one place that knows which kinds there are.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace preheat::device {

struct OpenOptions {
  int threads = 0;  // of a CPU; 0: as many as this process may use
};

// Throws kInvalidArgument where `spec` is none of auto, cpu, cuda, cuda:N.
void CheckSpec(std::string_view spec);

// "cpu"; "cuda" is cuda:0; "auto" is the first card that runs a target of ours, where there is one and its
// driver, else the CPU. Errors: as CheckSpec; kDevice, saying what is missing, for a device that cannot be
// opened.
std::unique_ptr<Device> Open(std::string_view spec, const OpenOptions& options = {});
// What Device::Targets would say of it, without opening it: a card need not have room for this process.
std::vector<std::string> TargetsOf(std::string_view spec);

}  // namespace preheat::device
