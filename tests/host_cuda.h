// A CUDA card that is this machine: a driver's table whose kernels run on the host (codegen/cuda's host
// machine), and a compiler that makes such kernels from CUDA text. With them all of the CUDA path but the
// card itself is tested: programs, launches, recorded steps, tokens that run ahead.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device/cuda/driver.h"
#include "device/device.h"
#include "toolchain/compiler.h"

namespace preheat::testing {

// What tests choose of the card; set before a device is made.
struct HostCard {
  int multiprocessors = 3;
  int capability = 90;
  uint64_t memory_bytes = uint64_t{1} << 34;
  uint64_t seed = 0;                 // of the order in which threads run
  int64_t launches_until_loss = -1;  // then every call fails as on a card that has gone; -1: never
  // Memory of at least so many bytes that is to be zeroed gets NaNs instead: what a program reads without
  // having written it shows. -1: none.
  int64_t poisoned_from_bytes = -1;
};
HostCard& TheHostCard();

// What has been asked of the driver and not been given back, by all devices of this process; launches: by the
// newest device.
struct HostCardUse {
  int64_t allocations = 0;
  int64_t bytes = 0;
  int64_t host_allocations = 0;
  int64_t modules = 0;
  int64_t recordings = 0;
  int64_t all_allocations = 0;       // ever, those given back too
  int64_t overlapping_launches = 0;  // ever, of those that may start before others have ended
  int64_t launches = 0;

  bool operator==(const HostCardUse&) const = default;
};
HostCardUse UseOfHostCard();

// One card, cuda:0. Errors of kernels are launch failures whose text says what was wrong.
const device::cuda::Driver& HostDriver();

// False where kernels cannot run on the host (under ThreadSanitizer).
bool HostCardRuns();

// "cuda:0" where a person has asked for a card, by $PREHEAT_TEST_CARD; else null.
const char* RealCard();
// That card, or this machine as TheHostCard() says.
std::unique_ptr<device::Device> OpenCard();
// What compiles for it; null: the one that is found.
const toolchain::Compiler* CardCompiler();

class HostCudaCompiler final : public toolchain::Compiler {
 public:
  std::string Identity() const override { return "the host's compiler, as CUDA"; }
  std::string FlagsText(std::string_view target) const override { return std::string(target); }
  std::vector<toolchain::CompiledUnit> Compile(const std::vector<toolchain::Unit>& units,
                                               const toolchain::CompileOptions& options) const override;
};

}  // namespace preheat::testing
