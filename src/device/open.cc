#include "device/open.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"

namespace preheat::device {
namespace {

using base::ErrorKind;
using base::MakeError;

bool IsCuda(std::string_view spec) {
  if (!spec.starts_with("cuda")) return false;
  spec.remove_prefix(4);
  if (spec.empty()) return true;
  constexpr size_t kMostDigits = 4;
  return spec[0] == ':' && spec.size() > 1 && spec.size() <= 1 + kMostDigits &&
         std::ranges::all_of(spec.substr(1), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

void CheckSpec(std::string_view spec) {
  if (spec == "auto" || spec == "cpu" || IsCuda(spec)) return;
  throw MakeError(ErrorKind::kInvalidArgument,
                  "--device {}: did you mean cpu? Valid values: auto, cpu, cuda[:N]", spec);
}

std::unique_ptr<Device> Open(std::string_view spec, const OpenOptions& options) {
  CheckSpec(spec);
  if (IsCuda(spec)) {
    int ordinal = 0;
    if (spec.size() > 5) std::from_chars(spec.data() + 5, spec.data() + spec.size(), ordinal);
    return std::make_unique<CudaDevice>(cuda::OpenDriver(), ordinal);
  }
  if (spec == "auto") {
    if (const cuda::Driver* driver = cuda::FindDriver()) return std::make_unique<CudaDevice>(*driver, 0);
  }
  return std::make_unique<CpuDevice>(ThreadPoolOptions{.threads = options.threads});
}

}  // namespace preheat::device
