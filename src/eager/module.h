// The module of library kernels (libpreheat_eager.so), opened only where eager execution is asked for, or
// where a graph break needs one of its kernels. One for the process: its threads and packed weights are the
// module's own. All calls and kernels belong to one thread at a time.
//
// It is sought as $PREHEAT_EAGER_MODULE (a file); beside the executable; in ../lib/preheat,
// ../lib/<arch>/preheat and
// ../eager (the build tree) relative to it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "eager/module_api.h"
#include "sys/dynamic_library.h"

namespace preheat::eager {

class Module {
 public:
  // Errors: Unsupported where the module or oneDNN is not there or the CPU is older than x86-64-v3;
  // Incompatible where it is of another build.
  static Module Open();
  // The same, from these files alone.
  static Module OpenFrom(const std::vector<std::string>& paths);

  Module(Module&&) = default;
  Module& operator=(Module&&) = default;

  // Errors: Unsupported where it has none of that name (kernel_table.h).
  ph_kernel Kernel(const std::string& name) const;
  // For session::Bindings::library: takes "library:eager" or "eager". Errors: Unsupported for other
  // libraries.
  ph_kernel Resolve(const std::string& library, const std::string& entry) const;

  // "oneDNN 2.6.3, avx512_core_bf16".
  std::string Identity() const;
  // Whether this CPU and library multiply bf16. Where not, bf16 weights are widened to f32, once.
  bool MultipliesBf16() const;
  // 0: the library's own choice.
  void SetThreads(int threads) const;
  // Shows `probe` the rows of Probe operations, f32 [rows, columns]; the last one set counts.
  void SetProbe(std::function<void(const float* values, int64_t rows, int64_t columns)> probe) const;

  // Bytes of weights in oneDNN's layouts.
  int64_t PackedBytes() const;
  // Drops them. They are found by the address of the checkpoint's weights: call it before those are unmapped.
  void ReleaseWeights() const;
  // Kernels cannot throw: after a step, throws what went wrong in it (ToolFailed).
  void ThrowIfFailed() const;

 private:
  explicit Module(sys::DynamicLibrary library);

  sys::DynamicLibrary library_;
};

}  // namespace preheat::eager
