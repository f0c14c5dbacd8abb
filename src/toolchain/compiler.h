// A compiler as a function: source text in, machine code out (sys/code_image.h). One implementation a kind of
// target: the host's C++ compiler for CPUs, NVRTC for NVIDIA GPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::toolchain {

struct Unit {
  std::string name;    // for file names and messages: [A-Za-z0-9_.-]
  std::string source;  // C++ or CUDA C++ text
  std::string target;  // one that the compiler knows
};

struct CompiledUnit {
  std::string name;
  std::vector<std::byte> image;  // a serialized code image
  double seconds = 0;            // wall time
  std::string report{};          // what the compiler said of registers and memory; may be empty
};

struct CompileOptions {
  int jobs = 0;               // units at once; 0: as many as CPUs may be used
  std::string keep_folder{};  // where the source of a failed unit is kept; empty: the temporary folder
  std::vector<std::string> extra_flags{};  // after ours; they belong into the caller's compile key
  // Called with each unit as it is done, in any order, from any thread, one call at a time.
  std::function<void(size_t unit, const CompiledUnit&)> on_compiled{};
};

class Compiler {
 public:
  virtual ~Compiler() = default;

  // Who makes the code, for keys and for people: no path, no build of the day.
  virtual std::string Identity() const = 0;
  // The flags for a target, as text: a part of the compile key. Throws kInvalidArgument for an unknown
  // target.
  virtual std::string FlagsText(std::string_view target) const = 0;
  // All units, in their order. Throws kToolFailed for the first that fails: the compiler's message, and where
  // the source was kept.
  virtual std::vector<CompiledUnit> Compile(const std::vector<Unit>& units,
                                            const CompileOptions& options) const = 0;
};

// The compiler for a target. Throws kNotFound where this machine has none.
std::unique_ptr<Compiler> FindCompiler(std::string_view target);

// Units compiled in this process so far, by any compiler: the counter that is 0 after preloading.
int64_t CompiledUnits();

}  // namespace preheat::toolchain
