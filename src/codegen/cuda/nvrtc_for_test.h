// NVRTC, where it is found: whether a unit's real text compiles for a card, with how many registers and
// spills. It needs no card.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "toolchain/nvrtc.h"

namespace preheat::codegen::cuda {

struct CudaReport {
  std::string messages;  // errors, warnings, lost performance; "" where there is none
  std::vector<toolchain::KernelResources> kernels;  // none where the unit did not compile

  // null where the unit has no kernel of that name.
  const toolchain::KernelResources* Find(const std::string& entry) const;
};

class NvrtcForTest {
 public:
  // nullopt, and why, where there is no NVRTC.
  static std::optional<NvrtcForTest> Open(std::string& reason);

  // `arch`: "sm_80", "sm_90a", ...
  CudaReport Compile(const std::string& source, const std::string& arch) const;

 private:
  explicit NvrtcForTest(toolchain::Nvrtc nvrtc) : nvrtc_(std::move(nvrtc)) {}

  toolchain::Nvrtc nvrtc_;
};

}  // namespace preheat::codegen::cuda
