// The host's C++ compiler as a Compiler, for the CPU targets.
//
// A unit is freestanding C++: it includes nothing but <stdint.h> and abi/kernel_abi.h's declarations, imports
// no symbol, has no writable globals. Each unit is one compiler process (about 35 ms for one kernel, 13 ms
// for each further kernel of the same unit, with g++ 12: so several kernels a unit pay, as many units as
// jobs). The compiler only makes an object file; laying it out and resolving its few relocations is ours
// (object_image.h), which saves the linker's 5 ms and leaves nothing that needs a loader.
//
// The same source, target and compiler give the same bytes, wherever and whenever it runs.
// Thread-safe after construction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "toolchain/compiler.h"

namespace preheat::toolchain {

// The CPU targets we generate code for, best first: x86-64-v4+avx512bf16, x86-64-v4, x86-64-v3.
const std::vector<std::string>& CpuTargets();
// The compiler's flags for a target, e.g. -march=x86-64-v4. Throws kInvalidArgument for an unknown target,
// naming the known ones.
std::vector<std::string> TargetFlags(std::string_view target);

// What enters a compile key: no path, no build of the day.
struct CompilerIdentity {
  std::string family;  // "gcc" or "clang"
  std::string
      version;  // the compiler's own version line, e.g. "gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)"
  std::string triple;  // e.g. "x86_64-linux-gnu"
  // "gcc version 12.2.0 (Debian 12.2.0-14+deb12u1), x86_64-linux-gnu"
  std::string Text() const;
};

class HostCompiler final : public Compiler {
 public:
  // Finds $CXX, c++, g++, clang++ in this order and asks the first that runs for its identity (one process).
  // Throws kNotFound where there is none.
  static HostCompiler Find();
  // A given compiler; for tests.
  static HostCompiler At(std::string command);

  HostCompiler(HostCompiler&& other) noexcept;

  const CompilerIdentity& identity() const { return identity_; }
  std::string Identity() const override { return identity_.Text(); }
  // Flags that every unit is compiled with, target apart.
  static const std::vector<std::string>& Flags();
  std::string FlagsText(std::string_view target) const override;

  // An error's message has the command, too.
  std::vector<CompiledUnit> Compile(const std::vector<Unit>& units,
                                    const CompileOptions& options = {}) const override;

 private:
  HostCompiler() = default;
  CompiledUnit CompileOne(const Unit& unit, const CompileOptions& options, const std::string& folder) const;
  std::vector<std::string> command_;  // the program and, where $CXX has some, its first arguments
  CompilerIdentity identity_;
};

}  // namespace preheat::toolchain
