#include "cli/options.h"

#include <limits>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "device/open.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr char kRunPrompt[] = "Explain how torch.compile cache artifacts reduce startup latency.";
constexpr char kBenchmarkPrompt[] = "Write a short explanation of portable torch.compile caches.";
// As many CPUs as Linux's affinity masks know; far more threads are a slip of the finger that takes all
// memory.
constexpr int64_t kMostThreads = 1024;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void AddSharedOptions(Arguments& arguments, SharedOptions& options) {
  arguments.Group("Model and artifact");
  arguments.Text("--model-id", options.model_id, "A folder, or a model of the local Hugging Face hub cache");
  arguments.Text("--cache-path", options.cache_path, "The artifact");
  arguments.Text("--metadata-path", options.metadata_path, "The artifact's metadata file");
  arguments.Group("Compilation");
  arguments.Choice("--dtype", options.dtype, DTypeNames(), "Arithmetic; auto: the checkpoint's own");
  arguments.Choice("--compile-mode", options.compile_mode,
                   {"default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"},
                   "default: heuristics; max-autotune: measure candidates");
  arguments.Choice("--cache-implementation", options.cache_implementation,
                   {"static", "hybrid", "sliding_window"},
                   "KV cache; the three are the same for models without sliding layers");
  arguments.Choice("--compile-dynamic", options.compile_dynamic, {"auto", "true", "false"},
                   "false: one program a listed length; true: one for any length; auto: both");
  arguments.Switch("fullgraph", options.fullgraph, "An operation that does not compile is an error");
  AddDeviceOptions(arguments, options.device);
}

// Values that are read as text and checked after parsing.
struct GenerationTexts {
  std::string prompt_ids;
  std::string buckets;
  double top_p = 1;
  int64_t top_k = 0;
  bool chat = false;
  std::string system;
};

void AddGenerationOptions(Arguments& arguments, GenerationOptions& options, GenerationTexts& texts) {
  arguments.Group("Generation");
  arguments.Text("--prompt", options.prompt, "Raw text; BOS is put before it");
  arguments.Text("--prompt-ids", texts.prompt_ids, "Token ids, taken as they are, in place of --prompt");
  arguments.Count("--max-new-tokens", options.max_new_tokens, 1, "The most tokens to generate");
  arguments.Number("--temperature", options.temperature, 0, kInfinity, "0: always the most likely token");
  arguments.Count("--top-k", texts.top_k, 0, "With a temperature: among the k most likely (0: all)");
  arguments.Number("--top-p", texts.top_p, 0, 1,
                   "With a temperature: among the most likely of this total probability");
  arguments.Count("--seed", options.seed, 0, "Of the random choices");
  arguments.Flag("--ignore-eos", options.ignore_eos, "Go on after an end token");
  arguments.Flag("--print-ids", options.print_ids, "Print a line of the new tokens' ids");
  arguments.Switch("--chat", "--raw", texts.chat, "Apply the model's chat template to the prompt");
  arguments.Text("--system", texts.system, "The system message, with --chat");
  arguments.Switch("bucket-pad", options.bucket_pad, "Pad the prompt to the smallest bucket that holds it");
  arguments.Text("--prefill-buckets", texts.buckets, "Buckets; empty: those of the metadata");
  arguments.Group("Execution");
  arguments.Choice("--execution", options.execution, {"compiled", "eager", "interpreter"},
                   "What computes the model");
  arguments.Flag("--forbid-compile", options.forbid_compile,
                 "Fail (exit code 3) rather than compile anything");
}

void FinishGeneration(const Arguments& arguments, const GenerationTexts& texts, GenerationOptions& options) {
  if (texts.chat || !texts.system.empty()) {
    throw MakeError(ErrorKind::kUnsupported,
                    "--chat and --system: chat templates are not there yet; use a raw prompt");
  }
  if (arguments.Given("--prompt-ids")) {
    if (arguments.Given("--prompt")) {
      throw MakeError(ErrorKind::kInvalidArgument, "--prompt-ids excludes --prompt: give one of them");
    }
    options.prompt_ids = ParseIds("--prompt-ids", texts.prompt_ids);
  }
  if (arguments.Given("--top-k")) options.top_k = texts.top_k;
  if (arguments.Given("--top-p")) options.top_p = texts.top_p;
  options.prefill_buckets = ParseLengths("--prefill-buckets", texts.buckets, /*may_be_empty=*/true);
}

}  // namespace

const std::vector<std::string>& DTypeNames() {
  static const std::vector<std::string> names = {"auto", "bfloat16", "bf16", "float16",
                                                 "fp16", "float32",  "fp32"};
  return names;
}

void AddDeviceOptions(Arguments& arguments, DeviceOptions& options) {
  arguments.Group("Device and output");
  arguments.Text("--device", options.device, "auto, cpu, or cuda[:N]");
  arguments.Count("--threads", options.threads, 0, "CPU threads; 0: as many as this process may use");
  arguments.Flag("--verbose", options.verbose, "Say more, on stderr");
  arguments.Flag("--quiet", options.quiet, "Say nothing but results and errors");
}

void ApplyDeviceOptions(const DeviceOptions& options) {
  base::SetLogLevel(options.quiet     ? base::LogLevel::kQuiet
                    : options.verbose ? base::LogLevel::kVerbose
                                      : base::LogLevel::kNormal);
  if (options.threads > kMostThreads) {
    throw MakeError(ErrorKind::kInvalidArgument, "--threads {}: at most {} are possible", options.threads,
                    kMostThreads);
  }
  device::CheckSpec(options.device);
}

std::optional<BuildOptions> ParseBuild(const std::vector<std::string>& words) {
  BuildOptions options;
  std::string lengths = "128,256,512,1024";
  Arguments arguments("preheat build", "Compiles a model and writes the artifact and its metadata.");
  AddSharedOptions(arguments, options.shared);
  arguments.Group("Build");
  arguments.Text("--prefill-lengths", lengths, "Prompt lengths to compile for");
  arguments.Count("--decode-length", options.decode_length, 1, "New tokens that runs are expected to make");
  arguments.Count("--batch-size", options.batch_size, 1, "Only 1");
  arguments.Count("--seed", options.seed, 0, "Kept for compatibility: compiling is not random");
  arguments.Text(
      "--targets", options.targets,
      "native, or names that `preheat devices` shows, comma-separated; compute_90 and the like: PTX, "
      "which a card's driver compiles where there is no machine code for it");
  arguments.Text("--dump", options.dump_folder,
                 "Folder for graphs, generated sources, schedules and programs");
  arguments.Flag("--json", options.json, "Print one JSON document instead of lines");
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return std::nullopt;
  options.prefill_lengths = ParseLengths("--prefill-lengths", lengths, /*may_be_empty=*/false);
  if (options.batch_size != 1) {
    throw MakeError(ErrorKind::kUnsupported, "--batch-size {}: only 1 is there; batching does not exist yet",
                    options.batch_size);
  }
  return options;
}

std::optional<RunOptions> ParseRun(const std::string& command, const std::vector<std::string>& words) {
  RunOptions options;
  GenerationTexts texts;
  options.generation.prompt = kRunPrompt;
  options.compare = command == "compare";
  if (command == "eager") options.generation.execution = "eager";
  Arguments arguments(command == "preheat-run" ? command : "preheat " + command,
                      "Generates text, preloading the artifact unless told otherwise.");
  AddSharedOptions(arguments, options.shared);
  AddGenerationOptions(arguments, options.generation, texts);
  arguments.Group("Run");
  arguments.Switch("load-artifacts", options.load_artifacts, "Preload the artifact");
  arguments.Flag("--compare-load-vs-skip", options.compare,
                 "Run cold-start trials: loading against skipping");
  arguments.Count("--compare-runs", options.compare_runs, 1, "Trials of each side");
  arguments.Switch("show-completions", options.show_completions, "Show what the trials generated");
  arguments.Flag("--emit-json-metrics", options.emit_json_metrics, "Print the METRICS_JSON line");
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return std::nullopt;
  FinishGeneration(arguments, texts, options.generation);
  if (options.compare && options.generation.forbid_compile) {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "--forbid-compile: a comparison has trials that must compile; leave one of the two out");
  }
  return options;
}

std::optional<BenchmarkOptions> ParseBenchmark(const std::vector<std::string>& words) {
  BenchmarkOptions options;
  GenerationTexts texts;
  options.generation.prompt = kBenchmarkPrompt;
  options.generation.bucket_pad = true;
  Arguments arguments("preheat benchmark",
                      "Measures eager, preloaded and cold-compiled processes side by side.");
  AddSharedOptions(arguments, options.shared);
  AddGenerationOptions(arguments, options.generation, texts);
  arguments.Group("Benchmark");
  arguments.Count("--num-requests", options.num_requests, 1, "Requests a process");
  arguments.Count("--repeats", options.repeats, 1, "Processes a mode");
  arguments.Switch("fixed-new-tokens", options.fixed_new_tokens, "End tokens cannot be chosen");
  arguments.Switch("isolate-compiler-caches", options.isolate_compiler_caches,
                   "A fresh cache folder for each process");
  arguments.Choice("--single-mode", options.single_mode, {"eager", "compile_preload", "compile_no_preload"},
                   "Run this mode in this process: what the benchmark starts");
  arguments.Flag("--emit-json", options.emit_json, "Print the BENCH_JSON line");
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return std::nullopt;
  FinishGeneration(arguments, texts, options.generation);
  if (options.generation.forbid_compile && options.single_mode != "compile_preload" &&
      options.single_mode != "eager") {
    throw MakeError(
        ErrorKind::kInvalidArgument,
        "--forbid-compile: a benchmark has a mode that must compile; use --single-mode compile_preload");
  }
  return options;
}

}  // namespace preheat::cli
