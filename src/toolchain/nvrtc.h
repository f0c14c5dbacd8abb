// NVIDIA's run-time compiler as a Compiler: CUDA C++ text in, a cubin for one architecture out, or where the
// target is one of PTX (sys/code_image.h), that. It needs no GPU, so that any machine can compile for any
// card.
//
// The library is opened at run time, from the first place that has it: $PREHEAT_NVRTC (the file), or where
// cuda_library.h looks. Its interface is that of NVRTC's manual; the few functions used have been the same
// since CUDA 11.2.
//
// Thread-safe after construction: units are compiled side by side.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sys/dynamic_library.h"
#include "toolchain/compiler.h"

namespace preheat::toolchain {

// "sm_90a", "compute_90" and the like.
bool IsNvrtcTarget(std::string_view target);

// What a kernel needs of a multiprocessor, as the assembler reports it: of PTX it is not known before a
// card's driver compiles it, and there is no report.
struct KernelResources {
  std::string entry;
  int registers = 0;
  int64_t stack_bytes = 0;   // what spills, and local arrays that are not in registers
  int64_t spill_bytes = 0;   // stores and loads together
  int64_t shared_bytes = 0;  // static
};
// From CompiledUnit::report.
std::vector<KernelResources> ParseResources(std::string_view report);
// The names of the kernels that a PTX text defines, in its order.
std::vector<std::string> PtxEntries(std::string_view ptx);

class Nvrtc final : public Compiler {
 public:
  // Throws kNotFound, saying where it was looked for; kUnsupported for a version that is too old.
  static Nvrtc Find();

  std::string Identity() const override;  // "NVRTC 13.0"
  std::string FlagsText(std::string_view target) const override;
  std::vector<CompiledUnit> Compile(const std::vector<Unit>& units,
                                    const CompileOptions& options) const override;

 private:
  struct Functions;
  Nvrtc(sys::DynamicLibrary library, std::shared_ptr<const Functions> functions, int major, int minor);
  CompiledUnit CompileOne(const Unit& unit, const CompileOptions& options) const;

  sys::DynamicLibrary library_;
  std::shared_ptr<const Functions> functions_;
  int major_;
  int minor_;
};

}  // namespace preheat::toolchain
