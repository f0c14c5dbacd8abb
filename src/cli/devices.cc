#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "compile/card_rates.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/measure.h"
#include "device/cuda/cuda_device.h"
#include "toolchain/compiler.h"

namespace preheat::cli {
namespace {

struct Card {
  device::CudaInfo info;
  std::string driver_version;  // the newest CUDA that the driver knows: "13.0"
  std::optional<compile::CardRates> rates;

  std::string Id() const { return fmt::format("cuda:{}", info.ordinal); }
  std::vector<std::string> Targets() const { return device::CudaTargets(info.capability); }
  std::vector<std::string> PtxTargets() const { return device::CudaPtxTargets(info.capability); }
};
using Cards = std::vector<Card>;

// Where there is nothing to measure it by, that is said, and the rest is shown all the same.
void Measure(const device::cuda::Driver& driver, Card& card) {
  if (card.Targets().empty()) return;
  try {
    const auto compiler = toolchain::FindCompiler(card.Targets().front());
    device::CudaDevice device(driver, card.info.ordinal);
    card.rates = compile::MeasureCard(device, *compiler);
  } catch (const base::Error& error) {
    base::Warn("{} is not measured: {}", card.Id(), error.message());
  }
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
  for (const Card& card : cards) {
    out.Begin().Field("id", card.Id()).Field("name", card.info.name);
    out.Field("targets", card.Targets()).Field("ptx_targets", card.PtxTargets());
    out.Field("memory_bytes", card.info.memory_bytes);
    out.Field("multiprocessors", static_cast<int64_t>(card.info.multiprocessors));
    out.Field("capability", device::CapabilityText(card.info.capability));
    out.Field("cuda_driver_version", card.driver_version);
    if (card.rates) {
      out.Field("read_bytes_per_s", card.rates->read_bytes_per_s);
      out.Field("bf16_flops_per_s", card.rates->bf16_flops_per_s);
    }
    out.End();
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
  for (const Card& card : cards) {
    fmt::print("{}: {}\n  targets: {}\n", card.Id(), card.info.name,
               card.Targets().empty() ? "none" : fmt::format("{}", fmt::join(card.Targets(), ", ")));
    if (const std::vector<std::string> ptx = card.PtxTargets(); !ptx.empty())
      fmt::print("  PTX, which its driver compiles where an artifact carries it: {}\n", fmt::join(ptx, ", "));
    fmt::print("  multiprocessors: {}\n  memory: {:.1f} GB\n  driver: for CUDA {}\n",
               card.info.multiprocessors, static_cast<double>(card.info.memory_bytes) / 1e9,
               card.driver_version);
    if (card.rates) {
      fmt::print("  read: {:.1f} GB/s\n  bf16: {:.1f} TFLOP/s\n", card.rates->read_bytes_per_s / 1e9,
                 card.rates->bf16_flops_per_s / 1e12);
    }
  }
}

}  // namespace

int DevicesCommand(const Words& words) {
  DeviceOptions options;
  bool measure = false;
  bool json = false;
  Arguments arguments("preheat devices", "Shows what this machine has and what code it runs.");
  arguments.Flag(
      "--measure", measure,
      "Measure read bandwidth and peak arithmetic of each device too (seconds); a card takes NVRTC");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, options);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(options);

  device::CpuDevice cpu({.threads = static_cast<int>(options.threads)});
  std::optional<device::CpuRates> rates;
  if (measure) rates = device::MeasureCpu(cpu.pool());
  Cards cards;
  if (const device::cuda::Driver* driver = device::cuda::FindDriver()) {
    for (const device::CudaInfo& info : device::ListCudaDevices(*driver))
      cards.push_back({.info = info, .driver_version = driver->VersionText()});
    if (measure) {
      for (Card& card : cards) Measure(*driver, card);
    }
  }
  if (json) {
    PrintJson(cpu, rates, cards);
  } else {
    PrintText(cpu, rates, cards);
  }
  return kExitDone;
}

}  // namespace preheat::cli
