// What users type, as values. Names, defaults and meaning: docs/from-torch.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/arguments.h"

namespace preheat::cli {

inline constexpr char kDefaultModel[] = "meta-llama/Llama-3.2-3B-Instruct";
inline constexpr char kDefaultArtifact[] = "artifacts/llama3b_torchcompile_cache.bin";
inline constexpr char kDefaultMetadata[] = "artifacts/llama3b_torchcompile_cache_meta.json";

struct DeviceOptions {
  std::string device = "auto";
  int64_t threads = 0;  // 0: as many as this process may use
  bool verbose = false;
  bool quiet = false;
};

// Shared by build, run and benchmark.
struct SharedOptions {
  std::string model_id = kDefaultModel;
  std::string cache_path = kDefaultArtifact;
  std::string metadata_path = kDefaultMetadata;
  std::string dtype = "auto";
  std::string compile_mode = "max-autotune";
  std::string cache_implementation = "static";
  std::string compile_dynamic = "auto";
  bool fullgraph = true;
  DeviceOptions device;
};

struct BuildOptions {
  SharedOptions shared;
  std::vector<int64_t> prefill_lengths = {128, 256, 512, 1024};
  int64_t decode_length = 128;
  int64_t batch_size = 1;
  int64_t seed = 0;
  std::string targets = "native";
  std::string dump_folder;
  bool json = false;
};

// How text is made: shared by run and benchmark.
struct GenerationOptions {
  std::string prompt;
  std::optional<std::vector<int32_t>> prompt_ids;
  int64_t max_new_tokens = 128;
  double temperature = 0;
  std::optional<int64_t> top_k;  // none: generation_config.json's, else 50
  std::optional<double> top_p;
  int64_t seed = 0;
  bool ignore_eos = false;
  bool print_ids = false;
  bool bucket_pad = false;
  std::vector<int64_t> prefill_buckets;  // empty: the metadata's
  std::string execution = "compiled";
  std::string target;  // code for this target; empty: the best that there is and that this machine runs
  bool forbid_compile = false;
};

struct RunOptions {
  SharedOptions shared;
  GenerationOptions generation;
  bool load_artifacts = true;
  bool compare = false;
  int64_t compare_runs = 1;
  bool show_completions = false;
  bool emit_json_metrics = false;
};

struct BenchmarkOptions {
  SharedOptions shared;
  GenerationOptions generation;
  int64_t num_requests = 3;
  int64_t repeats = 1;
  bool fixed_new_tokens = true;
  bool isolate_compiler_caches = true;
  std::string single_mode;  // empty: the parent, which runs all modes
  bool emit_json = false;
};

// Each returns nothing where --help was asked for and shown. Errors: InvalidArgument, Unsupported.
std::optional<BuildOptions> ParseBuild(const std::vector<std::string>& words);
std::optional<RunOptions> ParseRun(const std::string& command, const std::vector<std::string>& words);
std::optional<BenchmarkOptions> ParseBenchmark(const std::vector<std::string>& words);

// The options that every command has.
void AddDeviceOptions(Arguments& arguments, DeviceOptions& options);
// Sets the log level, and refuses what is no device's name.
void ApplyDeviceOptions(const DeviceOptions& options);

const std::vector<std::string>& DTypeNames();

}  // namespace preheat::cli
