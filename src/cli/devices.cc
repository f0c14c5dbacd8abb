#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/measure.h"
#include "device/cuda/cuda_device.h"

namespace preheat::cli {
namespace {

using Cards = std::vector<device::CudaInfo>;

std::string IdOf(const device::CudaInfo& card) {
  return fmt::format("cuda:{}", card.ordinal);
}

void PrintJson(const device::CpuDevice& cpu, const std::optional<device::CpuRates>& rates,
               const Cards& cards) {
  JsonText out;
  out.Begin().Key("devices").BeginList().Begin();
  out.Field("id", cpu.id()).Field("name", cpu.name()).Field("targets", cpu.Targets());
  out.Field("memory_bytes", cpu.memory_bytes()).Field("threads", static_cast<int64_t>(cpu.threads()));
  if (rates) {
    out.Field("read_bytes_per_s", rates->read_bytes_per_s);
    out.Field("read_bytes_per_s_1thread", rates->read_bytes_per_s_1thread);
    out.Field("bf16_flops_per_s", rates->bf16_flops_per_s);
  }
  out.End();
  for (const device::CudaInfo& card : cards) {
    out.Begin().Field("id", IdOf(card)).Field("name", card.name);
    out.Field("targets", device::CudaTargets(card.capability)).Field("memory_bytes", card.memory_bytes);
    out.Field("multiprocessors", static_cast<int64_t>(card.multiprocessors));
    out.Field("capability", device::CapabilityText(card.capability)).End();
  }
  out.EndList().End();
  fmt::print("{}", out.Text());
}

void PrintText(const device::CpuDevice& cpu, const std::optional<device::CpuRates>& rates,
               const Cards& cards) {
  fmt::print("{}: {}\n  targets: {}\n  threads: {}\n  memory: {:.1f} GB\n", cpu.id(), cpu.name(),
             fmt::join(cpu.Targets(), ", "), cpu.threads(), static_cast<double>(cpu.memory_bytes()) / 1e9);
  if (rates) {
    fmt::print("  read: {:.1f} GB/s with all threads, {:.1f} GB/s with one\n  bf16: {:.1f} GFLOP/s\n",
               rates->read_bytes_per_s / 1e9, rates->read_bytes_per_s_1thread / 1e9,
               rates->bf16_flops_per_s / 1e9);
  }
  for (const device::CudaInfo& card : cards) {
    fmt::print("{}: {}\n  targets: {}\n  multiprocessors: {}\n  memory: {:.1f} GB\n", IdOf(card), card.name,
               fmt::join(device::CudaTargets(card.capability), ", "), card.multiprocessors,
               static_cast<double>(card.memory_bytes) / 1e9);
  }
}

}  // namespace

int DevicesCommand(const Words& words) {
  DeviceOptions options;
  bool measure = false;
  bool json = false;
  Arguments arguments("preheat devices", "Shows what this machine has and what code it runs.");
  arguments.Flag("--measure", measure, "Measure read bandwidth and peak arithmetic too (seconds)");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, options);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(options);

  device::CpuDevice cpu({.threads = static_cast<int>(options.threads)});
  std::optional<device::CpuRates> rates;
  if (measure) rates = device::MeasureCpu(cpu.pool());
  std::vector<device::CudaInfo> cards;
  if (const device::cuda::Driver* driver = device::cuda::FindDriver())
    cards = device::ListCudaDevices(*driver);
  if (json) {
    PrintJson(cpu, rates, cards);
  } else {
    PrintText(cpu, rates, cards);
  }
  return kExitDone;
}

}  // namespace preheat::cli
