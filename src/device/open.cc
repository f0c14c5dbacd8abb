#include "device/open.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/log.h"
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

constexpr int kNoCard = -1;

// The first card that runs a target of ours.
int FirstUsableCard(const cuda::Driver& driver) {
  const std::vector<CudaInfo> cards = ListCudaDevices(driver);
  for (const CudaInfo& card : cards) {
    if (!CudaTargets(card.capability).empty()) return card.ordinal;
  }
  if (!cards.empty()) {
    base::Warn("no card is used: {} has compute capability {}, and {} is needed", cards.front().name,
               CapabilityText(cards.front().capability), kCudaNeeds);
  }
  return kNoCard;
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
    const cuda::Driver* const driver = cuda::FindDriver();
    if (const int ordinal = driver != nullptr ? FirstUsableCard(*driver) : kNoCard; ordinal != kNoCard) {
      return std::make_unique<CudaDevice>(*driver, ordinal);
    }
  }
  return std::make_unique<CpuDevice>(ThreadPoolOptions{.threads = options.threads});
}

}  // namespace preheat::device
