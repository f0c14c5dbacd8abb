#include "device/cuda/code_module.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"
#include "base/log.h"
#include "sys/clock.h"

namespace preheat::device::cuda {
namespace {

constexpr int kOverlapCapability = 90;  // griddepcontrol is in no older code

// PTX's own version, in its first lines: ".version 9.0".
std::string_view PtxVersion(std::string_view ptx) {
  constexpr std::string_view kWord = ".version ";
  const size_t at = ptx.find(kWord);
  if (at == std::string_view::npos) return "none";
  ptx.remove_prefix(at + kWord.size());
  return ptx.substr(0, ptx.find_first_not_of("0123456789."));
}

// What the driver compiled of one target.
struct Compiled {
  size_t kernels = 0;
  double seconds = 0;
};

void Tell(const CudaDevice& device, const std::string& target, const Compiled& compiled) {
  const std::vector<std::string> mine = device.Targets();
  base::Warn(
      "{} (compute capability {}) runs without machine code for {}: its driver compiled {} kernels from PTX "
      "of "
      "{}, which took {:.2f} s",
      device.name(), CapabilityText(device.info().capability),
      mine.empty() ? "its architecture" : fmt::format("{}", fmt::join(mine, " or ")), compiled.kernels,
      target, compiled.seconds);
}

}  // namespace

LoadedModules::LoadedModules(const CudaDevice& device, std::span<const std::span<const std::byte>> images)
    : LoadedModules(device) {
  std::map<std::string, Compiled> by_driver;  // by target
  for (const std::span<const std::byte> bytes : images) {
    const sys::CodeImageView image = sys::ParseCodeImage(bytes);
    const double start = sys::MonotonicSeconds();
    Load(image);
    if (!sys::IsPtxTarget(image.target)) continue;
    Compiled& compiled = by_driver[std::string(image.target)];
    compiled.kernels += image.entries.size();
    compiled.seconds += sys::MonotonicSeconds() - start;
  }
  for (const auto& [target, compiled] : by_driver) Tell(device, target, compiled);
}

void LoadedModules::Load(const sys::CodeImageView& image) {
  const Driver& driver = device_.driver();
  device_.CheckTarget(image.target);
  Module module = nullptr;
  if (sys::IsPtxTarget(image.target)) {
    module = Compile(image);
  } else {
    driver.Check(driver.ModuleLoadData(&module, image.body.data()), "loading machine code");
  }
  modules_.push_back(module);
  auto& entries = entries_.emplace_back();
  for (const auto& entry : image.entries) {
    const std::string name(entry.name);
    LoadedKernel kernel = {.waits = CapabilityOf(image.target) >= kOverlapCapability};
    driver.Check(driver.ModuleGetFunction(&kernel.function, module, name.c_str()), "finding kernel " + name);
    // As much as a block may have: a launch says how much it takes.
    driver.Check(driver.FuncSetAttribute(kernel.function, kMaxDynamicSharedBytes,
                                         static_cast<int>(device_.info().shared_bytes_per_block)),
                 "preparing kernel " + name);
    entries.emplace(name, kernel);
  }
}

Module LoadedModules::Compile(const sys::CodeImageView& image) const {
  const std::string_view text(reinterpret_cast<const char*>(image.body.data()), image.body.size());
  if (text.empty() || text.back() != '\0') {
    throw base::MakeError(base::ErrorKind::kCorrupt,
                          "code image for {}: its PTX has no end; build the artifact again", image.target);
  }
  const Driver& driver = device_.driver();
  std::array<char, 2048> log{};
  const JitOption options[] = {kJitErrorLog, kJitErrorLogBytes};
  void* values[] = {log.data(), reinterpret_cast<void*>(uintptr_t{log.size() - 1})};
  Module module = nullptr;
  const Result result = driver.ModuleLoadDataEx(&module, text.data(), std::size(options), options, values);
  if (result == kSuccess) return module;
  const std::string_view said(log.data());
  driver.Check(result,
               fmt::format("compiling PTX of {} (version {}) by the driver, which is of CUDA {}, for {}{}",
                           image.target, PtxVersion(text), driver.VersionText(), device_.name(),
                           said.empty() ? "" : fmt::format(" ({})", said)));
  return module;
}

LoadedModules::~LoadedModules() {
  device_.MakeCurrent();
  for (Module module : modules_) (void)device_.driver().ModuleUnload(module);
}

Kernel LoadedModules::Entry(size_t image, std::string_view name) const {
  if (image < entries_.size()) {
    const auto found = entries_[image].find(name);
    if (found != entries_[image].end()) return {.device = const_cast<LoadedKernel*>(&found->second)};
  }
  throw base::MakeError(base::ErrorKind::kCorrupt, "code image {}: it has no kernel {}", image, name);
}

}  // namespace preheat::device::cuda
