// A whole model against its machine: decode over read bandwidth, prefill over peak arithmetic, and memory,
// for compiled programs or eager. What is measured and what it is held against take turns; medians of rounds.
//
//   bench_model --model-id DIR [--cache-path A --metadata-path M] [--execution eager] [--rounds 5] [--rows
//   512]
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "cli/backends.h"
#include "cli/command.h"
#include "cli/engine.h"
#include "device/cpu/measure.h"
#include "measure/statistics.h"
#include "sys/clock.h"

namespace preheat::cli {
namespace {

struct Options {
  SharedOptions shared;
  GenerationOptions generation;
  int64_t rounds = 5;
  int64_t rows = 512;
  int64_t decode_steps = 8;
  bool load = false;
};

// Of a gigabyte each: about as long as the decode steps between.
constexpr int kReadPasses = 12;

// Bytes of anonymous memory of this process: what is not mapped weights.
double AnonymousBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("RssAnon:")) return std::stod(line.substr(8)) * 1024;
  }
  return 0;
}

// FLOPs of the layers' linears that a prompt of so many rows takes: two for each of their weights and rows.
// Of the last layer compiled programs compute for all rows no more than queries, keys and values.
double LinearFlops(const checkpoint::ModelConfig& c, int64_t rows, bool compiled) {
  const auto hidden = static_cast<double>(c.hidden_size);
  const double qkv = hidden * static_cast<double>(c.q_size() + 2 * c.kv_size());
  const double rest = hidden * static_cast<double>(c.q_size() + 3 * c.intermediate_size);
  const auto layers = static_cast<double>(c.num_hidden_layers), all = static_cast<double>(rows);
  const double rest_rows = compiled ? (layers - 1) * all + 1 : layers * all;
  return 2.0 * (layers * all * qkv + rest_rows * rest);
}

double Timed(const std::function<void()>& run) {
  const double start = sys::MonotonicSeconds();
  run();
  return sys::MonotonicSeconds() - start;
}

void Report(const char* what, const std::vector<double>& ratios, const std::string& absolute) {
  fmt::print("{}: median {:.3f} (from {:.3f} to {:.3f}), {}\n", what, measure::Median(ratios),
             *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()),
             absolute);
}

int Run(const Words& words) {
  Options options;
  Arguments arguments("bench_model", "Decode over read bandwidth, prefill over peak arithmetic, memory.");
  arguments.Text("--model-id", options.shared.model_id, "A folder");
  arguments.Text("--cache-path", options.shared.cache_path, "Preload this artifact");
  arguments.Text("--metadata-path", options.shared.metadata_path, "Its metadata");
  arguments.Text("--compile-mode", options.shared.compile_mode, "As preheat run's");
  arguments.Text("--execution", options.generation.execution, "compiled or eager");
  arguments.Text("--target", options.generation.target, "Code for this target");
  arguments.Count("--rounds", options.rounds, 1, "Interleaved rounds");
  arguments.Count("--rows", options.rows, 1, "Prompt length");
  arguments.Count("--decode-steps", options.decode_steps, 1, "Tokens a round");
  AddDeviceOptions(arguments, options.shared.device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return 0;
  options.load = arguments.Given("--cache-path");

  std::vector<int32_t> ids;
  for (int64_t i = 0; i < options.rows; ++i) ids.push_back(static_cast<int32_t>(1 + i % 200));
  options.generation.prompt_ids = ids;
  options.generation.bucket_pad = options.load;
  options.generation.max_new_tokens = options.decode_steps + 2;
  device::CpuProbe probe(size_t{1} << 30);
  device::ThreadPool pool({.threads = static_cast<int>(options.shared.device.threads)});
  const double before = AnonymousBytes();
  Engine engine({.shared = options.shared, .generation = options.generation, .load_artifacts = options.load},
                FullBackends());
  session::StepRunner& runner = engine.runner();
  const double weight_bytes = static_cast<double>(engine.checkpoint().weight_bytes());
  const double prefill_flops =
      LinearFlops(engine.checkpoint().config(), options.rows, options.generation.execution == "compiled");
  runner.Prefill(ids, engine.bucket());  // pages come in, library weights are packed
  runner.Decode();

  std::vector<double> decode_ratios, prefill_ratios, decode_seconds, prefill_seconds;
  for (int64_t round = 0; round < options.rounds; ++round) {
    runner.Reset();
    const double peak_before = probe.Bf16FlopsPerSecond(pool);
    const double prefill = Timed([&] { runner.Prefill(ids, engine.bucket()); });
    const double peak = (peak_before + probe.Bf16FlopsPerSecond(pool)) / 2;
    const double read_before = probe.SteadyReadBytesPerSecond(pool, kReadPasses);
    const double decode = Timed([&] {
                            for (int64_t i = 0; i < options.decode_steps; ++i) runner.Decode();
                          }) /
                          static_cast<double>(options.decode_steps);
    const double read = (read_before + probe.SteadyReadBytesPerSecond(pool, kReadPasses)) / 2;
    prefill_seconds.push_back(prefill);
    decode_seconds.push_back(decode);
    prefill_ratios.push_back(prefill_flops / prefill / peak);
    decode_ratios.push_back(weight_bytes / decode / read);
    fmt::print(
        "round {}: prefill {:.3f} s ({:.0f} of {:.0f} GFLOP/s), decode {:.1f} ms ({:.1f} of {:.1f} GB/s)\n",
        round + 1, prefill, prefill_flops / prefill / 1e9, peak / 1e9, decode * 1e3,
        weight_bytes / decode / 1e9, read / 1e9);
    std::fflush(stdout);
  }
  fmt::print("{} {}\n", engine.facts().target, engine.facts().dtype);
  Report("decode, weight bytes over read bandwidth", decode_ratios,
         fmt::format("median {:.2f} token/s", 1 / measure::Median(decode_seconds)));
  Report(fmt::format("prefill {}, linear FLOPs over bf16 peak", options.rows).c_str(), prefill_ratios,
         fmt::format("median {:.1f} token/s",
                     static_cast<double>(options.rows) / measure::Median(prefill_seconds)));
  fmt::print("anonymous memory beside the probe: {:.1f} MB, {:.2f}% of the weights (KV cache included)\n",
             (AnonymousBytes() - before) / 1e6, 100 * (AnonymousBytes() - before) / weight_bytes);
  return 0;
}

}  // namespace
}  // namespace preheat::cli

int main(int argc, char** argv) {
  return preheat::cli::Guarded("bench_model", preheat::cli::Run, {argv + 1, argv + argc});
}
