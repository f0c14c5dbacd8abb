// Steps of a model on a GPU, on random weights: decode at several positions, prefill of several lengths, for
// the heuristics' schedules and for others that are named.
//
//   bench_gpu --shape llama-3.2-3b [--device cuda] [--pasts 128,1000,4096] [--rows 128,256,512,1024]
//             [--variants FILE] [--without NAME+NAME,...] [--library]
//
// With --without, each variant is also timed without the launches of those regions or kernels: what they cost
// where they stand, beside what they overlap with. With --library, so are eager's programs, whose products
// are cuBLASLt's, and the products of each alone, with the sample that ends a step: the logits then have no
// meaning, which makes the sample slower, on both sides alike.
//
// FILE has a variant a line: a name, then REGION:number=value,...;REGION:... with the regions' names as
// `--dump` shows them; "*" in place of a region: all products.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/synth.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/options.h"
#include "compile/card_eager.h"
#include "compile/compiler.h"
#include "device/open.h"
#include "step_bench.h"

namespace preheat::cli {
namespace {

using bench::StepBench;
using preload::StepSpec;
using Schedules = std::map<std::string, codegen::Schedule>;

struct Variant {
  std::string name;
  Schedules schedules;
};

std::vector<std::string> SplitAt(const std::string& text, char mark) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, mark);) parts.push_back(part);
  return parts;
}

Variant ParseVariant(const std::string& line) {
  std::istringstream in(line);
  Variant variant;
  std::string rest;
  in >> variant.name >> rest;
  for (const std::string& region : SplitAt(rest, ';')) {
    const size_t colon = region.find(':');
    std::vector<std::string> names = {region.substr(0, colon)};
    if (names[0] == "*") names = {"qkv", "attention_output", "gate_up", "down", "head"};
    for (const std::string& name : names) {
      for (const std::string& number : SplitAt(region.substr(colon + 1), ',')) {
        const size_t equals = number.find('=');
        variant.schedules[name][number.substr(0, equals)] = std::stoll(number.substr(equals + 1));
      }
    }
  }
  return variant;
}

// The programs without the launches that `is_left_out` names.
template <class Predicate>
std::vector<program::Program> Without(std::vector<program::Program> programs, const Predicate& is_left_out) {
  for (program::Program& program : programs) {
    for (program::Segment& segment : program.segments) std::erase_if(segment.launches, is_left_out);
  }
  return programs;
}

// Of regions, or of kernels, of these names.
auto IsOneOf(const Words& names) {
  return [names](const program::Launch& launch) {
    return std::ranges::any_of(
        names, [&](const std::string& name) { return launch.region == name || launch.entry == name; });
  };
}

// Neither a product, or decode's one kernel, nor the sample, which ends a step.
bool IsBesideProducts(const program::Launch& launch) {
  const bool product =
      launch.entry == "matmul" || launch.link > 0 || launch.code.starts_with(program::kLibraryPrefix);
  return !product && launch.region != "sample";
}

int Run(const Words& words) {
  DeviceOptions device_options;
  device_options.device = "cuda";
  std::string shape = "llama-3.2-3b", pasts = "128,1000,4096", rows = "128,256,512,1024", variants_path,
              without;
  bool library = false;
  int64_t steps = 48, rounds = 5;
  Arguments arguments("bench_gpu", "Decode and prefill of a model's shape on a GPU.");
  arguments.Text("--shape", shape, "A shape of synth");
  arguments.Text("--pasts", pasts, "Positions to decode at");
  arguments.Text("--rows", rows, "Prompt lengths");
  arguments.Text("--variants", variants_path, "Schedules to compare");
  arguments.Text("--without", without, "Regions or kernels to leave out");
  arguments.Flag("--library", library, "Also eager's programs, by cuBLASLt, and the products of each alone");
  arguments.Count("--steps", steps, 1, "Decode steps of a round");
  arguments.Count("--rounds", rounds, 1, "Rounds");
  AddDeviceOptions(arguments, device_options);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return 0;
  const std::vector<int64_t> past_list = ParseLengths("--pasts", pasts, true);
  const std::vector<int64_t> row_list = ParseLengths("--rows", rows, true);
  std::vector<Variant> variants = {{.name = "default"}};
  if (!variants_path.empty()) {
    std::ifstream file(variants_path);
    for (std::string line; std::getline(file, line);) {
      if (!line.empty() && line[0] != '#') variants.push_back(ParseVariant(line));
    }
  }

  const auto device = device::Open(device_options.device);
  const std::string target = device::TargetsOrThrow(*device).front();
  store::Store store(store::Store::DefaultFolder());
  const checkpoint::ModelConfig config = checkpoint::SynthShape(shape);
  const int64_t capacity = 8192;
  StepBench bench(*device, store, config, tensor::DType::kBf16);
  fmt::print("{} {} {}, resident clusters {}\n", device->name(), target, shape,
             fmt::join(device->ResidentClusters(), " "));
  std::string header = fmt::format("{:28}", "variant, us");
  for (int64_t past : past_list) header += fmt::format(" {:>9}", fmt::format("d@{}", past));
  for (int64_t row : row_list) header += fmt::format(" {:>9}", fmt::format("p{}", row));
  fmt::print("{}\n", header);

  const auto time = [&](const std::string& name, const std::vector<program::Program>& programs) {
    const auto session = bench.Open(programs, capacity);
    std::string line = fmt::format("{:28}", name);
    for (int64_t past : past_list) {
      line +=
          fmt::format(" {:9.1f}", bench.DecodeSeconds(*session, past, steps, static_cast<int>(rounds)) * 1e6);
    }
    const bool buckets = std::ranges::any_of(programs, [](const program::Program& program) {
      return program.kind == program::StepKind::kPrefill && program.max_rows > 0;
    });
    for (int64_t row : row_list) {
      line += fmt::format(" {:9.1f}", bench.PrefillSeconds(*session, row, buckets ? row : 0, 20) * 1e6);
    }
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  const auto try_time = [&](const std::string& name, const auto& body) {
    try {
      body();
    } catch (const base::Error& error) {
      fmt::print("{:28} {}\n", name, error.message());
      std::fflush(stdout);
    }
  };
  for (const Variant& variant : variants) {
    try_time(variant.name, [&] {
      compile::CompilerOptions options = {.config = config,
                                          .family = {.config_hash = checkpoint::ConfigHash(config),
                                                     .weight_dtype = "bfloat16",
                                                     .dtype = "bfloat16",
                                                     .mode = "default",
                                                     .target = target},
                                          .threads = device->threads(),
                                          .resident_clusters = device->ResidentClusters(),
                                          .schedules = variant.schedules};
      std::vector<StepSpec> steps_to_make;
      if (!past_list.empty()) steps_to_make.push_back(StepSpec::Decode());
      for (int64_t row : row_list) steps_to_make.push_back(StepSpec::Bucket(row));
      compile::Compiler compiler(store, std::move(options));
      const std::vector<program::Program> programs = compiler.Compile(steps_to_make);
      time(variant.name, programs);
      for (const std::string& name : SplitAt(without, ',')) {
        time(fmt::format("{} - {}", variant.name, name), Without(programs, IsOneOf(SplitAt(name, '+'))));
      }
      if (library) time(variant.name + ", products", Without(programs, IsBesideProducts));
    });
  }
  if (library) {
    try_time("cuBLASLt", [&] {
      const auto eager = compile::MakeCardEager(store, {.config = config, .target = target}).programs;
      time("cuBLASLt", eager);
      time("cuBLASLt, products", Without(eager, IsBesideProducts));
    });
  }
  return 0;
}

}  // namespace
}  // namespace preheat::cli

int main(int argc, char** argv) {
  return preheat::cli::Guarded("bench_gpu", preheat::cli::Run, {argv + 1, argv + argc});
}
