// A CUDA card that is this machine: a driver's table whose kernels run on the host (codegen/cuda's host
// machine), and a compiler that makes such kernels from CUDA text. With them all of the CUDA path but the
// card itself is tested: programs, launches, recorded steps, tokens that run ahead.
#pragma once

#include <cstdint>
#include <string>

#include "device/cuda/driver.h"
#include "toolchain/compiler.h"

namespace preheat::testing {

// What tests choose of the card; set before a device is made.
struct HostCard {
  int multiprocessors = 3;
  int capability = 90;
  uint64_t memory_bytes = uint64_t{1} << 34;
  uint64_t seed = 0;                 // of the order in which threads run
  int64_t launches_until_loss = -1;  // then every call fails as on a card that has gone; -1: never
};
HostCard& TheHostCard();

// One card, cuda:0. Errors of kernels are launch failures whose text says what was wrong.
const device::cuda::Driver& HostDriver();

// False where kernels cannot run on the host (under ThreadSanitizer).
bool HostCardRuns();

class HostCudaCompiler final : public toolchain::Compiler {
 public:
  std::string Identity() const override { return "the host's compiler, as CUDA"; }
  std::string FlagsText(std::string_view target) const override { return std::string(target); }
  std::vector<toolchain::CompiledUnit> Compile(const std::vector<toolchain::Unit>& units,
                                               const toolchain::CompileOptions& options) const override;
};

}  // namespace preheat::testing
