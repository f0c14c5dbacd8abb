#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "artifact/writer.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/backends.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/output_file.h"
#include "cli/run_request.h"
#include "cli/tokenizer_task.h"
#include "cli/version.h"
#include "device/open.h"
#include "hub/hub.h"
#include "preload/provide.h"
#include "sys/clock.h"
#include "sys/files.h"
#include "tokenizer/tokenizer.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;
using preload::StepSpec;
using store::EntryKind;

std::vector<StepSpec> StepsToBuild(const BuildOptions& options) {
  std::vector<StepSpec> steps;
  if (options.shared.compile_dynamic != "true") {
    for (int64_t length : options.prefill_lengths) steps.push_back(StepSpec::Bucket(length));
  }
  if (options.shared.compile_dynamic != "false") steps.push_back(StepSpec::AnyLength());
  steps.push_back(StepSpec::Decode());
  return steps;
}

constexpr char kNative[] = "native";  // the best target of this machine

// The names that --targets lists, which may repeat and stand in any order.
std::vector<std::string> ListedTargets(const std::string& list) {
  std::vector<std::string> names;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    const std::string name = list.substr(begin, end - begin);
    begin = end + 1;
    if (!name.empty()) names.push_back(name == kNative ? name : codegen::ParseTarget(name).name);
  }
  if (names.empty()) {
    throw MakeError(ErrorKind::kInvalidArgument, "--targets \"{}\": needs native or one of {}", list,
                    fmt::join(codegen::TargetNames(), ", "));
  }
  return names;
}

// A build for CPUs alone has no use for a card.
std::unique_ptr<device::Device> OpenDevice(const BuildOptions& options, std::string spec) {
  const auto is_cpus = [](const std::string& name) {
    return name != kNative && !codegen::ParseTarget(name).IsCuda();
  };
  if (spec == "auto" && std::ranges::all_of(ListedTargets(options.targets), is_cpus)) spec = "cpu";
  return device::Open(spec, {.threads = static_cast<int>(options.shared.device.threads)});
}

std::vector<std::string> ChooseTargets(const std::string& list, const device::Device& device) {
  std::vector<std::string> targets = ListedTargets(list);
  for (std::string& target : targets) {
    if (target == kNative) target = device::TargetsOrThrow(device).front();
  }
  std::sort(targets.begin(), targets.end());
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  return targets;
}

// The kind of device that all of the targets are for; "" where they are for more than one.
std::string DeviceTypeOf(const std::vector<std::string>& targets) {
  const auto cards = std::ranges::count_if(
      targets, [](const std::string& target) { return codegen::ParseTarget(target).IsCuda(); });
  if (cards == 0) return "cpu";
  return static_cast<size_t>(cards) == targets.size() ? "cuda" : "";
}

// Everything of one build, phase by phase.
class Build {
 public:
  explicit Build(const BuildOptions& options)
      : options_(options),
        device_(OpenDevice(options, options.shared.device.device)),
        store_(store::Store::DefaultFolder()),
        targets_(ChooseTargets(options.targets, *device_)),
        steps_(StepsToBuild(options)) {}

  int Run() {
    OpenModel();
    PrepareOutput(options_.shared.cache_path);
    PrepareOutput(options_.shared.metadata_path);
    if (!options_.dump_folder.empty()) PrepareOutputFolder(options_.dump_folder);
    ArtifactFile();
    tokenizer_task_ = std::async(std::launch::async, PrepareTokenizer, TokenizerPath());
    for (const std::string& target : targets_) CompileFor(target);
    TakeTokenizer();
    WriteArtifact();
    WriteMetadata();
    Report();
    return kExitDone;
  }

 private:
  void Phase(const std::string& name, double seconds) const {
    if (!options_.json && !options_.shared.device.quiet)
      fmt::print("[build] {}: {}s\n", name, Seconds(seconds));
    std::fflush(stdout);
  }

  void OpenModel() {
    const double start = sys::MonotonicSeconds();
    checkpoint_ = checkpoint::Checkpoint::Open(hub::ResolveModel(options_.shared.model_id));
    checkpoint_->CheckComplete();
    dtype_ = ChooseDType(options_.shared.dtype, checkpoint_->dtype());
    Phase(
        fmt::format("model {} ({}, {:.2f} GB)", options_.shared.model_id, tensor::Name(checkpoint_->dtype()),
                    static_cast<double>(checkpoint_->weight_bytes()) / 1e9),
        sys::MonotonicSeconds() - start);
  }

  void ArtifactFile() {
    artifact::Manifest manifest;
    manifest.model = {.id = sys::FileName(options_.shared.model_id),
                      .config_hash = checkpoint::ConfigHash(checkpoint_->config())};
    manifest.purpose = {.targets = targets_,
                        .prefill_lengths = options_.prefill_lengths,
                        .decode_length = options_.decode_length,
                        .batch_size = options_.batch_size,
                        .dtype = std::string(tensor::Name(dtype_)),
                        .mode = options_.shared.compile_mode,
                        .dynamic = options_.shared.compile_dynamic,
                        .cache_implementation = options_.shared.cache_implementation};
    manifest.makers.versions = {{"preheat", std::string(kVersion)},
                                {"abi", std::to_string(PH_ABI_VERSION)},
                                {"program", std::to_string(program::kFormatVersion)}};
    manifest_ = std::move(manifest);
  }

  // What runs the target's code here: the device that was asked for, or beside a card the CPU; null: neither.
  // PTX is for cards that nobody knows yet: no device counts.
  device::Device* RunnerOf(const std::string& target) {
    const auto runs = [&](const device::Device& device) {
      const std::vector<std::string> mine = device.Targets();
      return std::find(mine.begin(), mine.end(), target) != mine.end();
    };
    if (runs(*device_)) return device_.get();
    if (codegen::ParseTarget(target).IsCuda() || device_->id() == "cpu") return nullptr;
    if (!cpu_) cpu_ = OpenDevice(options_, "cpu");
    return runs(*cpu_) ? cpu_.get() : nullptr;
  }

  void CompileFor(const std::string& target) {
    const double start = sys::MonotonicSeconds();
    device::Device* const runner = RunnerOf(target);
    preload::ProgramFamily family = MakeFamily(*checkpoint_, dtype_, options_.shared.compile_mode,
                                               runner != nullptr ? *runner : *device_);
    family.target = target;
    // What this machine cannot run it cannot measure either.
    if (runner == nullptr) family.profile = std::string(preload::kDefaultProfile);
    compile::CompilerOptions compiler_options =
        MakeCompilerOptions(*checkpoint_, family, dtype_, options_.shared.fullgraph,
                            ModeTunes(options_.shared.compile_mode) ? runner : nullptr);
    // Nor does it know how many threads, or multiprocessors, another has.
    if (runner != nullptr) {
      compiler_options.threads = runner->threads();
      compiler_options.resident_clusters = runner->ResidentClusters();
    }
    if (!options_.dump_folder.empty()) compiler_options.dump_folder = options_.dump_folder + "/" + target;
    compile::Compiler compiler(store_, std::move(compiler_options));
    const auto compile = [&](const preload::ProgramFamily&, std::span<const StepSpec> steps) {
      return compiler.Compile(steps);
    };
    preload::CompileCounters found;
    // What is found is not made, and so could not be shown.
    const bool dump = !options_.dump_folder.empty();
    const auto programs =
        dump ? compile(family, steps_) : preload::ProvidePrograms(store_, family, steps_, compile, found);

    for (const compile::StepTiming& step : compiler.report().steps) AddTiming(step);
    Phase(fmt::format("{}: tuning", target), compiler.report().tune_seconds);
    Phase(fmt::format("{}: {}", target, codegen::ParseTarget(target).ptx ? "PTX" : "machine code"),
          compiler.report().machine_code_seconds);
    Phase(fmt::format("{}: {} programs", target, programs.size()), sys::MonotonicSeconds() - start);
    timings_.push_back({"tune", 0, compiler.report().tune_seconds});
    timings_.push_back({"machine_code", 0, compiler.report().machine_code_seconds});
    for (const std::string& text : compiler.report().graph_breaks) {
      base::Warn("graph break: {} runs eager", text);
    }
    for (const program::Program& program : programs) toolchains_.push_back(program.toolchain);
    misses_ += compiler.counters().async_compile_miss;
    Collect(family, programs);
  }

  void AddTiming(const compile::StepTiming& step) {
    const size_t digits = step.step.find_first_of("0123456789");
    const int64_t length = digits == std::string::npos ? 0 : std::atoll(step.step.c_str() + digits);
    timings_.push_back({step.step == "decode" ? "decode" : "prefill", length, step.capture_seconds});
    Phase(fmt::format("{} captured and lowered", step.step), step.capture_seconds);
  }

  // A program goes in under its own profile, and as the target's default for machines that nobody measured.
  void Collect(const preload::ProgramFamily& family, const std::vector<program::Program>& programs) {
    for (size_t i = 0; i < programs.size(); ++i) {
      const std::string json = program::ToJson(programs[i]);
      for (const std::string& profile : {family.profile, std::string(preload::kDefaultProfile)}) {
        preload::ProgramFamily keyed = family;
        keyed.profile = profile;
        entries_.push_back({EntryKind::kProgram, preload::ProgramKey(keyed, steps_[i]), family.target, json});
      }
      for (const std::string& hash : program::CodeHashes(programs[i])) {
        auto code = store_.Get(EntryKind::kCode, hash);
        if (!code)
          throw MakeError(ErrorKind::kIo,
                          "machine code {} vanished from the store while building; build again", hash);
        codes_.push_back({family.target, std::move(*code)});
      }
    }
  }

  // While code is compiled: reading, hashing, tables and packing take 0.1 s of a fast core.
  struct PreparedTokenizer {
    store::Key key;
    artifact::PackedBytes bytes;
    double seconds = 0;
  };
  static std::optional<PreparedTokenizer> PrepareTokenizer(const std::string& path) {
    if (!sys::Exists(path)) return std::nullopt;
    const double start = sys::MonotonicSeconds();
    const std::string json = sys::ReadFile(path);
    PreparedTokenizer prepared = {
        .key = TokenizerKey(json),
        .bytes = artifact::Pack(tokenizer::Tokenizer::Parse(json, path).Serialize()),
    };
    prepared.seconds = sys::MonotonicSeconds() - start;
    return prepared;
  }

  std::string TokenizerPath() const { return checkpoint_->folder() + "/tokenizer.json"; }

  void TakeTokenizer() {
    tokenizer_ = tokenizer_task_.get();
    if (tokenizer_) {
      Phase("tokenizer", tokenizer_->seconds);
    } else {
      base::Warn("{} is missing: the artifact goes without a tokenizer, and runs need --prompt-ids",
                 TokenizerPath());
    }
  }

  void WriteArtifact() {
    const double start = sys::MonotonicSeconds();
    std::sort(toolchains_.begin(), toolchains_.end());
    toolchains_.erase(std::unique(toolchains_.begin(), toolchains_.end()), toolchains_.end());
    manifest_.makers.toolchains = toolchains_;
    artifact::ArtifactWriter writer(manifest_);
    for (const Entry& entry : entries_) writer.Add(entry.kind, entry.key, entry.target, entry.bytes);
    for (const Code& code : codes_) writer.AddCode(code.target, code.bytes.span());
    if (tokenizer_) writer.Add(EntryKind::kTokenizer, tokenizer_->key, "", std::move(tokenizer_->bytes));
    artifact_bytes_ = static_cast<int64_t>(writer.WriteTo(options_.shared.cache_path));
    Phase(fmt::format("artifact {} ({:.1f} KB)", options_.shared.cache_path,
                      static_cast<double>(artifact_bytes_) / 1e3),
          sys::MonotonicSeconds() - start);
  }

  void WriteMetadata() {
    preload::Metadata metadata = DescribeRun(options_.shared, dtype_, *device_);
    metadata.prefill_lengths = options_.prefill_lengths;
    metadata.decode_length = options_.decode_length;
    metadata.batch_size = options_.batch_size;
    metadata.timings = timings_;
    metadata.timestamp_utc = sys::UtcTimestamp();
    metadata.targets = targets_;
    // What is built for another kind of device says nothing of this one.
    if (const std::string type = DeviceTypeOf(targets_); !type.empty() && type != metadata.device_type) {
      metadata.device_type = type;
      metadata.device_name.clear();
      metadata.gpu.reset();
    }
    for (const artifact::ManifestEntry& entry :
         artifact::Artifact::ReadManifest(options_.shared.cache_path).entries) {
      ++metadata.entries[std::string(store::EntryKindName(entry.kind))];
    }
    metadata.cache_bytes = artifact_bytes_;
    metadata_json_ = preload::ToJson(metadata);
    sys::WriteFileAtomic(options_.shared.metadata_path, metadata_json_);
  }

  void Report() const {
    if (options_.json) {
      fmt::print("{}", metadata_json_);
      return;
    }
    fmt::print("[build] wrote {} and {}: targets {}, lengths {}, {} kernels compiled, {}s in all\n",
               options_.shared.cache_path, options_.shared.metadata_path, fmt::join(targets_, ","),
               fmt::join(options_.prefill_lengths, ","), misses_, Seconds(sys::ProcessStartSeconds()));
  }

  struct Entry {
    EntryKind kind;
    store::Key key;
    std::string target;
    std::string bytes;
  };
  struct Code {
    std::string target;
    store::EntryBytes bytes;
  };

  const BuildOptions& options_;
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<device::Device> cpu_;  // where it is needed beside a card
  store::Store store_;
  std::vector<std::string> targets_;
  std::vector<StepSpec> steps_;
  std::optional<checkpoint::Checkpoint> checkpoint_;
  tensor::DType dtype_ = tensor::DType::kF32;
  artifact::Manifest manifest_;
  std::future<std::optional<PreparedTokenizer>> tokenizer_task_;
  std::optional<PreparedTokenizer> tokenizer_;
  std::vector<Entry> entries_;
  std::vector<Code> codes_;
  std::vector<preload::WarmupTiming> timings_;
  std::vector<std::string> toolchains_;
  int64_t misses_ = 0;
  int64_t artifact_bytes_ = 0;
  std::string metadata_json_;
};

}  // namespace

int BuildCommand(const Words& words) {
  const auto options = ParseBuild(words);
  if (!options) return kExitDone;
  ApplyDeviceOptions(options->shared.device);
  return Build(*options).Run();
}

}  // namespace preheat::cli
