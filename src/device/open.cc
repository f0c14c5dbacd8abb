#include "device/open.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"
#include "sys/cpu.h"

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

struct Card {
  const cuda::Driver& driver;
  int ordinal;
};

// The first that runs machine code of ours, else PTX that is at hand.
std::optional<Card> FirstUsableCard(const OpenOptions& options) {
  const cuda::Driver* const driver = cuda::FindDriver();
  if (driver == nullptr) return std::nullopt;
  const std::vector<CudaInfo> cards = ListCudaDevices(*driver);
  for (const CudaInfo& card : cards) {
    if (!CudaTargets(card.capability).empty()) return Card{*driver, card.ordinal};
  }
  for (const CudaInfo& card : cards) {
    const std::vector<std::string> ptx = CudaPtxTargets(card.capability);
    if (!ptx.empty() && options.has_ptx && options.has_ptx(ptx)) return Card{*driver, card.ordinal};
  }
  if (!cards.empty()) {
    const int capability = cards.front().capability;
    const std::vector<std::string> ptx = CudaPtxTargets(capability);
    base::Warn("no card is used: {} has compute capability {}, and {} is needed{}", cards.front().name,
               CapabilityText(capability), kCudaNeeds,
               ptx.empty() ? "" : fmt::format(", or {}", PtxAdvice(ptx.front())));
  }
  return std::nullopt;
}

// The card that `spec` means; none: the CPU.
std::optional<Card> ChooseCard(std::string_view spec, const OpenOptions& options) {
  CheckSpec(spec);
  if (spec == "auto") return FirstUsableCard(options);
  if (!IsCuda(spec)) return std::nullopt;
  int ordinal = 0;
  if (spec.size() > 5) std::from_chars(spec.data() + 5, spec.data() + spec.size(), ordinal);
  return Card{cuda::OpenDriver(), ordinal};
}

}  // namespace

void CheckSpec(std::string_view spec) {
  if (spec == "auto" || spec == "cpu" || IsCuda(spec)) return;
  throw MakeError(ErrorKind::kInvalidArgument,
                  "--device {}: did you mean cpu? Valid values: auto, cpu, cuda[:N]", spec);
}

std::unique_ptr<Device> Open(std::string_view spec, const OpenOptions& options) {
  if (const auto card = ChooseCard(spec, options))
    return std::make_unique<CudaDevice>(card->driver, card->ordinal);
  return std::make_unique<CpuDevice>(ThreadPoolOptions{.threads = options.threads});
}

std::string Resolve(std::string_view spec, const OpenOptions& options) {
  const auto card = ChooseCard(spec, options);
  return card ? fmt::format("cuda:{}", card->ordinal) : "cpu";
}

RunnableTargets TargetsOf(std::string_view spec, const OpenOptions& options) {
  if (const auto card = ChooseCard(spec, options)) {
    const int capability = FindCudaDevice(card->driver, card->ordinal).capability;
    return {CudaTargets(capability), CudaPtxTargets(capability)};
  }
  return {sys::SupportedCpuTargets(sys::ThisCpu().features), {}};
}

}  // namespace preheat::device
