#include "eager/module.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "eager/kernel_table.h"
#include "sys/cpu.h"
#include "sys/env.h"

namespace preheat::eager {
namespace {

constexpr char kFileName[] = "libpreheat_eager.so";

std::vector<std::string> Places() {
  if (const auto path = sys::GetEnv("PREHEAT_EAGER_MODULE")) return {*path};
  std::error_code ignored;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  std::vector<std::string> paths;
  for (const char* place :
       {"", "../lib/preheat", "../lib/x86_64-linux-gnu/preheat", "../eager", "../src/eager"}) {
    paths.push_back((folder / place / kFileName).lexically_normal().string());
  }
  return paths;
}

std::function<void(const float*, int64_t, int64_t)>& CurrentProbe() {
  static std::function<void(const float*, int64_t, int64_t)> probe;
  return probe;
}

// What the module calls. An exception of the probe passes through it into its Run, which records it.
void CallProbe(const float* values, int64_t rows, int64_t columns, void*) {
  if (CurrentProbe()) CurrentProbe()(values, rows, columns);
}

}  // namespace

Module::Module(sys::DynamicLibrary library) : library_(std::move(library)) {
  library_.KeepOpen();  // its thread library cannot be unloaded while its threads wait
}

Module Module::Open() {
  return OpenFrom(Places());
}

Module Module::OpenFrom(const std::vector<std::string>& paths) {
  if (!sys::ThisCpu().features.x86_64_v3()) {
    throw base::MakeError(
        base::ErrorKind::kUnsupported,
        "eager execution: this CPU is older than x86-64-v3 (AVX2, FMA); use --execution interpreter");
  }
  std::string reason;
  auto library = sys::DynamicLibrary::Open(paths, &reason);
  if (!library) {
    throw base::MakeError(
        base::ErrorKind::kUnsupported,
        "eager execution: its module of oneDNN kernels does not open: {}; install libdnnl2 (to run "
        "it) or libdnnl-dev (and build again)",
        reason);
  }
  auto* abi = library->Symbol<ph_module_abi_version_function*>("ph_module_abi_version");
  auto* version = library->Symbol<ph_module_version_function*>("ph_module_version");
  if (abi == nullptr || version == nullptr || abi() != PH_ABI_VERSION || version() != kModuleVersion) {
    throw base::MakeError(
        base::ErrorKind::kIncompatible,
        "eager execution: {} is of another version of preheat; install both from the same build",
        library->name());
  }
  return Module(std::move(*library));
}

ph_kernel Module::Kernel(const std::string& name) const {
  auto* find = library_.Symbol<ph_module_kernel_function*>("ph_module_kernel");
  const ph_kernel kernel = find == nullptr ? nullptr : find(name.c_str());
  if (kernel == nullptr) {
    throw base::MakeError(base::ErrorKind::kUnsupported, "eager execution: {} has no kernel \"{}\"",
                          library_.name(), name);
  }
  return kernel;
}

ph_kernel Module::Resolve(const std::string& library, const std::string& entry) const {
  if (library != kLibraryName && library != std::string("library:") + kLibraryName) {
    throw base::MakeError(base::ErrorKind::kUnsupported,
                          "program: kernel {} is of library \"{}\"; this preheat knows only \"{}\"", entry,
                          library, kLibraryName);
  }
  return Kernel(entry);
}

std::string Module::Identity() const {
  return library_.Symbol<ph_module_identity_function*>("ph_module_identity")();
}

bool Module::MultipliesBf16() const {
  return library_.Symbol<ph_module_bf16_function*>("ph_module_bf16")() != 0;
}

void Module::SetThreads(int threads) const {
  library_.Symbol<ph_module_set_threads_function*>("ph_module_set_threads")(threads);
}

void Module::SetProbe(std::function<void(const float*, int64_t, int64_t)> probe) const {
  CurrentProbe() = std::move(probe);
  library_.Symbol<ph_module_set_probe_function*>("ph_module_set_probe")(CurrentProbe() ? CallProbe : nullptr,
                                                                        nullptr);
}

int64_t Module::PackedBytes() const {
  return library_.Symbol<ph_module_packed_bytes_function*>("ph_module_packed_bytes")();
}

void Module::ReleaseWeights() const {
  library_.Symbol<ph_module_release_function*>("ph_module_release")();
}

void Module::ThrowIfFailed() const {
  const char* what = library_.Symbol<ph_module_take_error_function*>("ph_module_take_error")();
  if (what != nullptr) throw base::MakeError(base::ErrorKind::kToolFailed, "eager execution: {}", what);
}

}  // namespace preheat::eager
