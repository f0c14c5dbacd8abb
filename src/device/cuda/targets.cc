#include "device/cuda/targets.h"

#include <fmt/format.h>

#include <charconv>

namespace preheat::device {

// A cubin runs on its own capability and on later ones of the same major number; one of an architecture's own
// features (90a) on that alone.
std::vector<std::string> CudaTargets(int capability) {
  if (capability == 90) return {"sm_90a"};
  std::vector<std::string> targets;
  for (const int sm : {120, 100, 89, 86, 80}) {
    if (sm / 10 == capability / 10 && sm <= capability) targets.push_back(fmt::format("sm_{}", sm));
  }
  return targets;
}

// PTX is for its own capability and all later ones, whatever their major number.
std::vector<std::string> CudaPtxTargets(int capability) {
  std::vector<std::string> targets;
  for (const int sm : {120, 100, 90, 80}) {
    if (sm <= capability) targets.push_back(fmt::format("compute_{}", sm));
  }
  return targets;
}

int CapabilityOf(std::string_view target) {
  int capability = 0;
  const size_t at = target.find('_') + 1;
  std::from_chars(target.data() + at, target.data() + target.size(), capability);
  return capability;
}

}  // namespace preheat::device
