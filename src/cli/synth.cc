#include <fmt/format.h>

#include "base/error.h"
#include "checkpoint/synth.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "cli/run_request.h"
#include "sys/clock.h"
#include "sys/signals.h"

namespace preheat::cli {

int SynthCommand(const Words& words) {
  std::string shape;
  std::string dtype = "bf16";
  std::string output;
  int64_t seed = 0;
  int64_t shards = 1;
  bool json = false;
  DeviceOptions device;
  Arguments arguments("preheat synth",
                      "Writes a random checkpoint of a real shape, with a byte-level tokenizer.");
  arguments.Text("--shape", shape, "llama-3.2-1b, llama-3.2-3b, llama-3.1-8b, or the path of a config.json");
  arguments.Choice("--dtype", dtype, {"bfloat16", "bf16", "float16", "fp16", "float32", "fp32"},
                   "Type of the weights");
  arguments.Count("--seed", seed, 0, "Of the random weights");
  arguments.Count("--shards", shards, 1, "Weight files");
  arguments.Text("--output", output, "Folder to write; must not exist, or be empty");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(device);
  if (shape.empty() || output.empty()) {
    throw base::MakeError(base::ErrorKind::kInvalidArgument,
                          "synth needs --shape and --output; see preheat synth --help");
  }
  const sys::InterruptFlag interrupt;
  const double start = sys::MonotonicSeconds();
  const tensor::DType stored = tensor::ParseDType(dtype).value();
  const checkpoint::SynthResult result = checkpoint::Synthesize({.config = checkpoint::SynthShape(shape),
                                                                 .dtype = stored,
                                                                 .seed = static_cast<uint64_t>(seed),
                                                                 .shards = static_cast<int>(shards),
                                                                 .folder = output,
                                                                 .threads = static_cast<int>(device.threads),
                                                                 .cancel = &interrupt.flag()});
  const double seconds = sys::MonotonicSeconds() - start;
  if (json) {
    JsonText out;
    out.Begin().Field("path", output).Field("weight_files", result.weight_files);
    out.Field("weight_bytes", result.weight_bytes).Field("dtype", tensor::Name(stored));
    out.Field("seed", seed).Field("seconds", seconds).End();
    fmt::print("{}", out.Text());
    return kExitDone;
  }
  fmt::print("[synth] wrote {}: {:.3f} GB of weights in {} file(s), {}s ({:.2f} GB/s)\n", output,
             static_cast<double>(result.weight_bytes) / 1e9, result.weight_files.size(), Seconds(seconds),
             static_cast<double>(result.weight_bytes) / 1e9 / seconds);
  return kExitDone;
}

}  // namespace preheat::cli
