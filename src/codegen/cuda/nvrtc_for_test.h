// NVRTC, where it is found: whether a unit's real text compiles for a card, with how many registers and
// spills. It needs no card. One thread at a time.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sys/dynamic_library.h"

namespace preheat::codegen::cuda {

struct CudaReport {
  struct Kernel {
    std::string name;
    int registers = 0;
    int spilled_bytes = 0;  // stores and loads, of the kernel and what it calls
    int stack_bytes = 0;    // local arrays that are not in registers
  };

  bool compiled = false;
  std::string messages;  // errors, warnings, lost performance; "" where there is none
  std::vector<Kernel> kernels;
  std::string cubin;

  // null where the unit has no kernel of that name.
  const Kernel* Find(const std::string& name) const;
};

class NvrtcForTest {
 public:
  // nullopt, and why, where there is no NVRTC.
  static std::optional<NvrtcForTest> Open(std::string& reason);

  // `arch`: "sm_80", "sm_90a", ...
  CudaReport Compile(const std::string& source, const std::string& arch) const;

 private:
  explicit NvrtcForTest(sys::DynamicLibrary library);

  sys::DynamicLibrary library_;
};

}  // namespace preheat::codegen::cuda
