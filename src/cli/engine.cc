#include "cli/engine.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/version.h"
#include "device/open.h"
#include "hub/hub.h"
#include "sys/clock.h"
#include "sys/code_image.h"
#include "sys/files.h"
#include "tensor/shape.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(sys::MonotonicSeconds()) {}
  ~Stopwatch() { seconds_ += sys::MonotonicSeconds() - start_; }

 private:
  double& seconds_;
  double start_;
};

}  // namespace

bool ModeTunes(const std::string& mode) {
  return mode == "max-autotune" || mode == "max-autotune-no-cudagraphs";
}

tensor::DType ChooseDType(const std::string& option, tensor::DType weights) {
  if (option == "auto") return weights;
  const tensor::DType wanted = tensor::ParseDType(option).value();
  if (wanted == weights || wanted == tensor::DType::kF32) return wanted;
  throw MakeError(
      ErrorKind::kUnsupported,
      "--dtype {}: the checkpoint holds {}, and weights are used as they are; use --dtype auto, --dtype "
      "float32, or a converted checkpoint",
      option, tensor::Name(weights));
}

preload::ProgramFamily MakeFamily(const checkpoint::Checkpoint& checkpoint, tensor::DType dtype,
                                  const std::string& mode, const device::Device& device) {
  return {.config_hash = checkpoint::ConfigHash(checkpoint.config()),
          .weight_dtype = std::string(tensor::Name(checkpoint.dtype())),
          .dtype = std::string(tensor::Name(dtype)),
          .mode = mode,
          .profile = ModeTunes(mode) ? device.model() : std::string(preload::kDefaultProfile)};
}

preload::Metadata DescribeRun(const SharedOptions& shared, tensor::DType dtype,
                              const device::Device& device) {
  std::optional<preload::Gpu> gpu;
  if (const auto facts = device.gpu()) {
    gpu = {.name = device.name(),
           .capability = facts->capability,
           .total_memory_bytes = device.memory_bytes(),
           .cuda_runtime_version = facts->driver_version};
  }
  return {.model_id = shared.model_id,
          .mode = shared.compile_mode,
          .fullgraph = shared.fullgraph,
          .dynamic = shared.compile_dynamic,
          .dtype = std::string(tensor::Name(dtype)),
          .cache_implementation = shared.cache_implementation,
          .device_type = std::string(device.id().substr(0, device.id().find(':'))),
          .device_name = device.name(),
          .gpu = std::move(gpu),
          .targets = device.Targets(),
          .versions = {{"abi", std::to_string(PH_ABI_VERSION)}, {"preheat", std::string(kVersion)}}};
}

Engine::Engine(const EngineRequest& request, const Backends& backends)
    : request_(request), backends_(backends), store_(store::Store::DefaultFolder()) {
  StartDevice();
  OpenModel();
  if (request_.generation.execution == "compiled") OpenArtifact();
  tokenizer_task_->PrepareFrom(Sources());
  CheckModel();
  TakeDevice();
  CompareWithBuild();
  TakeTokenizer();
  MakePrompt();
  PlanSteps();
  CheckLengths();
  MakeRunner();
}

Engine::~Engine() {
  if (release_library_) release_library_();
}

void Engine::OpenModel() {
  const Stopwatch watch(facts_.model_load_seconds);
  const std::string folder = hub::ResolveModel(request_.shared.model_id);
  tokenizer_task_.emplace(folder);
  checkpoint_ = checkpoint::Checkpoint::Open(folder);
  dtype_ = ChooseDType(request_.shared.dtype, checkpoint_->dtype());
  facts_.dtype = tensor::Name(dtype_);
}

void Engine::CheckModel() {
  const Stopwatch watch(facts_.model_load_seconds);
  checkpoint_->CheckComplete();
  if (request_.want_residency) facts_.page_cache_resident = checkpoint_->ResidentFraction();
}

void Engine::OpenArtifact() {
  const Stopwatch watch(facts_.artifact_load_seconds);
  metadata_ = preload::ReadMetadata(request_.shared.metadata_path);
  if (metadata_) facts_.build_decode_length = metadata_->decode_length;
  if (!request_.load_artifacts) return;
  artifact_ =
      artifact::Artifact::Open(request_.shared.cache_path, artifact::Artifact::Check::kAllButTokenizers);
  facts_.artifact_bytes = static_cast<int64_t>(artifact_->size_bytes());
  if (!metadata_) {
    notes_.push_back(fmt::format("metadata {} is missing: the compatibility check is skipped",
                                 request_.shared.metadata_path));
  }
}

void Engine::CompareWithBuild() {
  if (!artifact_ || !metadata_) return;
  preload::Metadata run = DescribeRun(request_.shared, dtype_, *device_);
  for (const std::string& target : device_->PtxTargets()) {  // PTX that was built serves as well
    if (std::ranges::find(metadata_->targets, target) != metadata_->targets.end())
      run.targets.push_back(target);
  }
  for (const std::string& line : preload::Mismatches(*metadata_, run)) {
    notes_.push_back("artifact differs in " + line);
  }
  if (request_.generation.max_new_tokens > metadata_->decode_length) {
    notes_.push_back(fmt::format(
        "--max-new-tokens {} is more than the build's decode length {}: nothing is compiled for it",
        request_.generation.max_new_tokens, metadata_->decode_length));
  }
}

void Engine::TakeTokenizer() {
  TokenizerTask::Result result = tokenizer_task_->Take();
  facts_.tokenizer_load_seconds = result.seconds;
  if (!result.tokenizer && !request_.generation.prompt_ids) {
    throw MakeError(ErrorKind::kNotFound,
                    "{}/tokenizer.json: no such file; give --prompt-ids, or a folder with a tokenizer",
                    checkpoint_->folder());
  }
  if (result.tables) held_.push_back(std::move(*result.tables));
  tokenizer_ = std::move(result.tokenizer);
}

void Engine::MakePrompt() {
  prompt_ = request_.generation.prompt_ids ? *request_.generation.prompt_ids
                                           : tokenizer_->Encode(request_.generation.prompt);
  const int64_t vocab = checkpoint_->config().vocab_size;
  for (int32_t id : prompt_) {
    if (id < vocab) continue;
    throw MakeError(ErrorKind::kInvalidArgument, "prompt token {} is not in the model's vocabulary of {}", id,
                    vocab);
  }
}

void Engine::PlanSteps() {
  facts_.buckets = request_.generation.prefill_buckets;
  if (facts_.buckets.empty() && metadata_) facts_.buckets = metadata_->prefill_lengths;
  std::sort(facts_.buckets.begin(), facts_.buckets.end());
  if (request_.generation.execution != "compiled") return;
  plan_ = preload::PlanSteps({.prompt_tokens = static_cast<int64_t>(prompt_.size()),
                              .buckets = facts_.buckets,
                              .bucket_pad = request_.generation.bucket_pad,
                              .dynamic = request_.shared.compile_dynamic,
                              .logit_rows = request_.logit_rows});
  notes_.insert(notes_.end(), plan_.notes.begin(), plan_.notes.end());
}

void Engine::CheckLengths() const {
  const int64_t limit = checkpoint_->config().max_position_embeddings;
  const auto prompt = static_cast<int64_t>(prompt_.size());
  const int64_t wanted = prompt + request_.generation.max_new_tokens;
  if (wanted <= limit) return;
  const std::string advice = prompt < limit ? fmt::format(" or at most {} new tokens", limit - prompt) : "";
  throw MakeError(
      ErrorKind::kInvalidArgument,
      "{} prompt tokens and --max-new-tokens {} exceed the model's max_position_embeddings of {}; use a "
      "shorter prompt{}",
      prompt, request_.generation.max_new_tokens, limit, advice);
}

int64_t Engine::Capacity() const {
  return std::max<int64_t>(plan_.bucket,
                           static_cast<int64_t>(prompt_.size()) + request_.generation.max_new_tokens);
}

// A card's driver takes a third of a second: it starts before all else.
void Engine::StartDevice() {
  // Library kernels have threads of their own: ours would only be in their way.
  const bool interpreter = request_.generation.execution == "interpreter";
  const bool library = request_.generation.execution == "eager";
  const int threads = library ? 1 : static_cast<int>(request_.shared.device.threads);
  std::string spec = request_.shared.device.device;
  if (interpreter && spec == "auto") spec = "cpu";
  if (interpreter && spec != "cpu") {
    throw MakeError(ErrorKind::kUnsupported,
                    "--execution interpreter: the reference runs on the CPU, not on {}; use --device cpu",
                    spec);
  }
  device::OpenOptions options;
  if (request_.load_artifacts && request_.generation.execution == "compiled")
    options = OpenOptionsWith(request_.shared.cache_path);
  options.threads = threads;
  device_task_ = std::async(std::launch::async, [spec, options] { return device::Open(spec, options); });
}

void Engine::TakeDevice() {
  const Stopwatch watch(facts_.model_load_seconds);
  device_ = device_task_.get();
  facts_.device = device_->id();
  base::Detail("{} is ready {:.3f} s after the process's start", device_->id(), sys::ProcessStartSeconds());
  std::vector<device::HostTensor> tensors;
  for (const checkpoint::ExpectedTensor& expected : checkpoint::ExpectedTensors(checkpoint_->config())) {
    tensors.push_back({expected.name, checkpoint_->Tensor(expected.name, expected.shape).bytes()});
  }
  weights_ = device_->PlaceWeights(std::move(tensors));
}

void Engine::MakeRunner() {
  const Stopwatch watch(facts_.model_load_seconds);
  const std::string& execution = request_.generation.execution;
  if (execution == "compiled") return MakeCompiledRunner();
  const auto& backend_missing = execution == "eager" ? !backends_.eager : !backends_.interpreter;
  if (backend_missing) {
    throw MakeError(ErrorKind::kUnsupported, "--execution {}: this binary only preloads; use preheat run",
                    execution);
  }
  facts_.target = execution;
  const BackendContext context = {.checkpoint = *checkpoint_,
                                  .dtype = dtype_,
                                  .logit_rows = request_.logit_rows,
                                  .fullgraph = request_.shared.fullgraph,
                                  .device = *device_,
                                  .store = store_,
                                  .counters = counters_,
                                  .threads = static_cast<int>(request_.shared.device.threads),
                                  .may_compile = !request_.generation.forbid_compile};
  if (execution == "interpreter") {
    runner_ = backends_.interpreter(context, Capacity());
    return;
  }
  Backends::Library library = backends_.eager(context);
  session::Bindings bindings = MakeBindings(store_);
  bindings.library = library.resolve;
  bindings.check_step = library.check_step;
  release_library_ = library.release;
  notes_.insert(notes_.end(), library.notes.begin(), library.notes.end());
  runner_ = std::make_unique<session::Session>(
      *device_, std::move(library.programs), bindings,
      session::SessionOptions{.capacity = Capacity(), .piece_rows = static_cast<int64_t>(prompt_.size())});
}

std::vector<store::EntrySource*> Engine::Sources() {
  std::vector<store::EntrySource*> sources;
  if (artifact_) sources.push_back(&*artifact_);
  sources.push_back(&store_);
  return sources;
}

void Engine::MakeCompiledRunner() {
  store::SourceChain chain(Sources());
  family_ = MakeFamily(*checkpoint_, dtype_, request_.shared.compile_mode, *device_);
  if (sys::IsPtxTarget(request_.generation.target)) family_.profile = std::string(preload::kDefaultProfile);
  const BackendContext context = {.checkpoint = *checkpoint_,
                                  .dtype = dtype_,
                                  .logit_rows = request_.logit_rows,
                                  .fullgraph = request_.shared.fullgraph,
                                  .device = *device_,
                                  .store = store_,
                                  .counters = counters_,
                                  .threads = device_->threads()};
  preload::CompileFunction compile;
  if (!request_.generation.forbid_compile && backends_.compile) compile = backends_.compile(context);
  if (!compile && artifact_) CheckArtifactFits();
  preload::Provision provision = Provide(chain, compile);
  facts_.target = provision.family.target;

  session::Bindings bindings = MakeBindings(chain);
  if (backends_.breaks) bindings.library = backends_.breaks(context);
  runner_ = std::make_unique<session::Session>(
      *device_, std::move(provision.programs), bindings,
      session::SessionOptions{.capacity = Capacity(),
                              .piece_rows = std::min(kPieceRows, static_cast<int64_t>(prompt_.size()))});
}

session::Bindings Engine::MakeBindings(store::EntrySource& source) {
  return {.weight = [this](const std::string& name, const program::Weight& weight) -> const void* {
            const tensor::TensorView view = checkpoint_->Tensor(name, tensor::Shape(weight.shape));
            if (view.dtype() != weight.dtype) {
              throw MakeError(ErrorKind::kCorrupt, "{}: is {}, the program expects {}", name,
                              tensor::Name(view.dtype()), tensor::Name(weight.dtype));
            }
            return weights_->Address(name);
          },
          .code =
              [this, &source](const std::string& hash) {
                auto entry = source.Get(store::EntryKind::kCode, hash);
                if (!entry) throw MakeError(ErrorKind::kCorrupt, "machine code {} is missing", hash);
                held_.push_back(std::move(*entry));
                return held_.back().span();
              },
          .library = [](const std::string& library, const std::string& entry) -> device::Kernel {
            throw MakeError(ErrorKind::kUnsupported, "the program calls {} of library {}, which is not there",
                            entry, library);
          },
          .await_weights =
              [this] {
                weights_->Wait();
                base::Detail("weights are in place {:.3f} s after the process's start",
                             sys::ProcessStartSeconds());
              }};
}

generate::GenerateOptions Engine::MakeGenerateOptions(const GenerationOptions& generation,
                                                      bool fixed_new_tokens) const {
  const checkpoint::GenerationConfig& config = checkpoint_->generation_config();
  generate::GenerateOptions options = {.max_new_tokens = generation.max_new_tokens,
                                       .bucket = plan_.bucket,
                                       .fixed_new_tokens = fixed_new_tokens,
                                       .ignore_end = generation.ignore_eos};
  options.end_tokens.assign(checkpoint_->EosTokenIds().begin(), checkpoint_->EosTokenIds().end());
  options.sampling.temperature = generation.temperature;
  // transformers' own default where the model has no wish.
  options.sampling.top_k = generation.top_k.value_or(config.top_k.value_or(50));
  options.sampling.top_p = generation.top_p.value_or(config.top_p.value_or(1.0));
  options.sampling.seed = static_cast<uint64_t>(generation.seed);
  return options;
}

}  // namespace preheat::cli
