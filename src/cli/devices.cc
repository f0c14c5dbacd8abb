#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/measure.h"

namespace preheat::cli {

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
  if (json) {
    JsonText out;
    out.Begin().Key("devices").BeginList().Begin();
    out.Field("id", cpu.id()).Field("name", cpu.name()).Field("targets", cpu.Targets());
    out.Field("memory_bytes", cpu.memory_bytes()).Field("threads", static_cast<int64_t>(cpu.threads()));
    if (rates) {
      out.Field("read_bytes_per_s", rates->read_bytes_per_s);
      out.Field("read_bytes_per_s_1thread", rates->read_bytes_per_s_1thread);
      out.Field("bf16_flops_per_s", rates->bf16_flops_per_s);
    }
    out.End().EndList().End();
    fmt::print("{}", out.Text());
    return kExitDone;
  }
  fmt::print("{}: {}\n  targets: {}\n  threads: {}\n  memory: {:.1f} GB\n", cpu.id(), cpu.name(),
             fmt::join(cpu.Targets(), ", "), cpu.threads(), static_cast<double>(cpu.memory_bytes()) / 1e9);
  if (rates) {
    fmt::print("  read: {:.1f} GB/s with all threads, {:.1f} GB/s with one\n  bf16: {:.1f} GFLOP/s\n",
               rates->read_bytes_per_s / 1e9, rates->read_bytes_per_s_1thread / 1e9,
               rates->bf16_flops_per_s / 1e9);
  }
  return kExitDone;
}

}  // namespace preheat::cli
