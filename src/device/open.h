// The device that a user names: the one place that knows which kinds there are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace preheat::device {

struct OpenOptions {
  int threads = 0;  // of a CPU; 0: as many as this process may use
  // Whether PTX for one of these targets is at hand: then "auto" takes a card too that no machine code of
  // ours is for. Asked only where there is no other card. Empty: there is none.
  std::function<bool(const std::vector<std::string>& ptx_targets)> has_ptx{};
};

// Throws kInvalidArgument where `spec` is none of auto, cpu, cuda, cuda:N.
void CheckSpec(std::string_view spec);

// "cpu"; "cuda" is cuda:0; "auto" is the first card that runs machine code of ours, else PTX that is at hand,
// where there is one and its driver, else the CPU. Errors: as CheckSpec; kDevice, saying what is missing, for
// a device that cannot be opened.
std::unique_ptr<Device> Open(std::string_view spec, const OpenOptions& options = {});
// The same device by a name of its own: "cpu" or "cuda:N". It is not opened.
std::string Resolve(std::string_view spec, const OpenOptions& options = {});
// What the device's Targets and PtxTargets would say, without opening it: a card need not have room for this
// process.
struct RunnableTargets {
  std::vector<std::string> machine_code;
  std::vector<std::string> ptx;
};
RunnableTargets TargetsOf(std::string_view spec, const OpenOptions& options = {});

}  // namespace preheat::device
