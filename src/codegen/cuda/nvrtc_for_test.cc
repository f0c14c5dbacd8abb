#include "codegen/cuda/nvrtc_for_test.h"

#include <sstream>
#include <utility>

#include "base/error.h"
#include "sys/env.h"

namespace preheat::codegen::cuda {
namespace {

// What is said beside each kernel's resources.
std::string MessagesOf(const std::string& report) {
  std::string messages;
  std::istringstream lines(report);
  for (std::string line; std::getline(lines, line);) {
    const bool lost_performance = line.find("(C75") != std::string::npos;
    const bool resources =
        line.starts_with("ptxas info") || line.find("bytes stack frame") != std::string::npos;
    if (lost_performance || (!resources && line.find_first_not_of(" \n") != std::string::npos))
      messages += line + "\n";
  }
  return messages;
}

}  // namespace

const toolchain::KernelResources* CudaReport::Find(const std::string& entry) const {
  for (const toolchain::KernelResources& kernel : kernels) {
    if (kernel.entry == entry) return &kernel;
  }
  return nullptr;
}

std::optional<NvrtcForTest> NvrtcForTest::Open(std::string& reason) {
  try {
    return NvrtcForTest(toolchain::Nvrtc::Find());
  } catch (const base::Error& error) {
    reason = error.message();
    return std::nullopt;
  }
}

CudaReport NvrtcForTest::Compile(const std::string& source, const std::string& arch) const {
  const sys::UniqueTempDir kept("preheat-nvrtc-test");
  try {
    // 177: an unused function; units carry the whole machine.
    const std::vector<toolchain::CompiledUnit> units =
        nvrtc_.Compile({{.name = "unit", .source = source, .target = arch}},
                       {.keep_folder = kept.path(), .extra_flags = {"--diag-suppress=177"}});
    const std::string& report = units.front().report;
    return {.messages = MessagesOf(report), .kernels = toolchain::ParseResources(report)};
  } catch (const base::Error& error) {
    return {.messages = error.message(), .kernels = {}};
  }
}

}  // namespace preheat::codegen::cuda
