// Source text -> machine code in the store: each text is compiled once, on any machine that shares the store.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "store/store.h"
#include "toolchain/compiler.h"
#include "toolchain/nvrtc.h"

namespace preheat::compile {

struct Source {
  std::string name;  // for file names and messages
  std::string text;
};

class CodeMaker {
 public:
  // `store` and `compiler` outlive the maker; null: the one that the machine has for the target. `jobs`:
  // units at once; 0: as many as there are CPUs.
  CodeMaker(store::Store& store, std::string target, int jobs, const toolchain::Compiler* compiler = nullptr)
      : store_(store), target_(std::move(target)), jobs_(jobs), compiler_(compiler) {}

  // From now on what the store does not have is an error.
  void ForbidCompiling() { may_compile_ = false; }

  struct MakeOptions {
    // Told of each source when its code is there, from any thread, one call at a time. What it throws ends
    // the making.
    std::function<void(size_t source, const std::string& hash)> made{};
    int spared = 0;  // CPUs that are left to others, where there are more
    bool shows_progress = true;
  };
  // The hash of each source's code, in order; equal texts are compiled once. Starts no process where all is
  // found but the one that asks the compiler who it is. Errors: NotFound where there is no compiler,
  // ToolFailed; WouldCompile, naming a source, where compiling is forbidden.
  std::vector<std::string> Make(std::span<const Source> sources) { return Make(sources, {}); }
  std::vector<std::string> Make(std::span<const Source> sources, const MakeOptions& options);

  // What the compiler said of the kernels in code that was made or found here; empty where it said nothing.
  const std::vector<toolchain::KernelResources>& ResourcesOf(const std::string& hash) const;

  int64_t compiled() const { return compiled_; }
  int64_t found() const { return found_; }
  double seconds() const { return seconds_; }
  // Empty where no compiler was asked for.
  std::string Identity() const { return compiler_ ? compiler_->Identity() : ""; }

 private:
  const toolchain::Compiler& Compiler();
  store::Key KeyOf(const std::string& text);
  std::optional<std::string> FindCode(const store::Key& key);
  void KeepReport(const std::string& hash, std::string_view report);

  store::Store& store_;
  std::string target_;
  int jobs_;
  const toolchain::Compiler* compiler_;
  std::unique_ptr<toolchain::Compiler> found_compiler_;
  std::map<std::string, std::vector<toolchain::KernelResources>> resources_;  // by hash of the code
  bool may_compile_ = true;
  int64_t compiled_ = 0;
  int64_t found_ = 0;
  double seconds_ = 0;
};

}  // namespace preheat::compile
