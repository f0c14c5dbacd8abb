#include "codegen/cuda/cuda_unit_for_test.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "codegen/cuda/host_fiber_for_test.h"
#include "sys/env.h"

namespace preheat::codegen::cuda {
namespace {

#ifdef __clang__
constexpr const char* kCompiler = "clang++";
#else
constexpr const char* kCompiler = "g++";
#endif
// Under AddressSanitizer units are checked by it too. The compiler's other checks need no library: the unit
// has their handlers (host_names_for_test.h).
#ifdef PREHEAT_FIBERS_ASAN
constexpr const char* kAddress = "address,";
#else
constexpr const char* kAddress = "";
#endif

std::string Command(const CudaUnitOptions& options, const std::string& folder) {
  std::string command = fmt::format(
      "{} -std=c++17 -O1 -fPIC -shared -march=x86-64-v3 -ffp-contract=off -fno-math-errno "
      "-fno-strict-aliasing "
      "-fno-exceptions -fvisibility=hidden -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-parameter "
      "-fsanitize={}alignment,null,bounds,signed-integer-overflow,integer-divide-by-zero,shift-exponent "
      "-DHOST_CHECKS -D__CUDA_ARCH__={} -I{}/src",
      options.compiler.empty() ? kCompiler : options.compiler, kAddress, options.arch, PREHEAT_SOURCE_DIR);
  for (const std::string& flag : options.flags) command += " " + flag;
  return fmt::format("{0} -o {1}/unit.so {1}/unit.cc -lm >{1}/log 2>&1", command, folder);
}

// Of the text's KERNEL(name, ...) lines.
std::vector<std::string> NamesOfKernels(const std::string& source) {
  constexpr std::string_view kOpening = "\nKERNEL(";
  std::set<std::string> names;
  for (size_t at = source.find(kOpening); at != std::string::npos; at = source.find(kOpening, at + 1)) {
    const size_t begin = at + kOpening.size();
    names.insert(source.substr(begin, source.find(',', begin) - begin));
  }
  return {names.begin(), names.end()};
}

}  // namespace

CudaUnitForTest::CudaUnitForTest(const std::string& source, const CudaUnitOptions& options) {
  const sys::UniqueTempDir folder("preheat-unit");
  std::ofstream(folder.File("unit.cc")) << WithHostMachine(source);
  const std::string command = Command(options, folder.path());
  const bool compiled = std::system(command.c_str()) == 0;
  std::ifstream file(folder.File("log"));
  log_ = std::string(std::istreambuf_iterator<char>(file), {});
  if (!compiled) {
    log_ = command + "\n" + log_;
    return;
  }
  std::ifstream unit(folder.File("unit.so"), std::ios::binary);
  bytes_ = std::string(std::istreambuf_iterator<char>(unit), {});
  kernel_names_ = NamesOfKernels(source);
  Load();
}

CudaUnitForTest CudaUnitForTest::FromBytes(std::string bytes) {
  CudaUnitForTest unit;
  unit.bytes_ = std::move(bytes);
  unit.Load();
  return unit;
}

// By way of a file, which is all that a loader takes; it may go once it is loaded.
void CudaUnitForTest::Load() {
  const sys::UniqueTempDir folder("preheat-unit");
  std::ofstream(folder.File("unit.so"), std::ios::binary) << bytes_;
  handle_ = dlopen(folder.File("unit.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    log_ += dlerror();
    return;
  }
  *static_cast<const HostCalls**>(dlsym(handle_, "host_calls")) = &HostCallTable();
}

CudaUnitForTest::CudaUnitForTest(CudaUnitForTest&& other) noexcept
    : log_(std::move(other.log_)),
      bytes_(std::move(other.bytes_)),
      kernel_names_(std::move(other.kernel_names_)),
      handle_(std::exchange(other.handle_, nullptr)) {}

CudaUnitForTest::~CudaUnitForTest() {
  if (handle_ != nullptr) dlclose(handle_);
}

std::optional<HostKernel> CudaUnitForTest::Find(const std::string& entry) const {
  if (handle_ == nullptr) return std::nullopt;
  HostKernel kernel = {.name = entry,
                       .function = reinterpret_cast<void (*)(const void*)>(dlsym(handle_, entry.c_str())),
                       .bounds = static_cast<const HostBounds*>(dlsym(handle_, (entry + "_bounds").c_str()))};
  if (kernel.function == nullptr || kernel.bounds == nullptr) return std::nullopt;
  return kernel;
}

HostRun CudaUnitForTest::Run(const std::string& entry, const HostLaunch& launch) const {
  if (handle_ == nullptr) return {.error = "the unit was not compiled: " + log_};
  const auto kernel = Find(entry);
  if (!kernel) return {.error = "the unit has no kernel " + entry};
  return RunOnHost(*kernel, launch);
}

}  // namespace preheat::codegen::cuda
