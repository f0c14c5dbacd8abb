// A CUDA unit's text compiled for this machine, to run its kernels on the host (host_machine_for_test.h):
//
//   const CudaUnitForTest unit(source);
//   const Params params = {.x = x.data(), ...};  // laid out as in the unit
//   const HostRun run = unit.Run("kernel", {.grid = 264, .threads = 128, .shared_bytes = 4096,
//                                           .params = BytesOf(params), .seed = 1});
//   EXPECT_EQ(run.error, "");
//
// A plain a * b + c is rounded twice here; NVRTC fuses it, unless told not to. FusedMultiplyAdd, Multiply and
// Add are the same on both.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codegen/cuda/host_machine_for_test.h"

namespace preheat::codegen::cuda {

struct CudaUnitOptions {
  int arch = 900;                    // __CUDA_ARCH__: below 900 there are no bulk copies
  std::string compiler{};            // empty: the one that built this
  std::vector<std::string> flags{};  // after ours
};

class CudaUnitForTest {
 public:
  // REQUIRES: `source` contains CudaMachine().
  explicit CudaUnitForTest(const std::string& source, const CudaUnitOptions& options = {});
  // What bytes() of another gave.
  static CudaUnitForTest FromBytes(std::string bytes);
  ~CudaUnitForTest();
  CudaUnitForTest(CudaUnitForTest&& other) noexcept;
  CudaUnitForTest& operator=(const CudaUnitForTest&) = delete;

  // The compiled unit; "" where it did not compile.
  const std::string& bytes() const { return bytes_; }
  // Nothing where the unit has none of that name.
  std::optional<HostKernel> Find(const std::string& entry) const;
  // Sorted.
  std::vector<std::string> KernelNames() const { return kernel_names_; }

  // The compiler's messages; "" where it had none.
  const std::string& log() const { return log_; }

  // What went wrong is in the result's `error`: a unit that did not compile, an entry that it has not, the
  // run.
  HostRun Run(const std::string& entry, const HostLaunch& launch) const;

 private:
  CudaUnitForTest() = default;
  void Load();

  std::string log_;
  std::string bytes_;
  std::vector<std::string> kernel_names_;
  void* handle_ = nullptr;
};

template <typename Params>
std::span<const std::byte> BytesOf(const Params& params) {
  return std::as_bytes(std::span(&params, 1));
}

}  // namespace preheat::codegen::cuda
