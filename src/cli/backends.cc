#include "cli/backends.h"

#include <memory>
#include <utility>

#include "base/error.h"
#include "capture/llama.h"
#include "compile/card_eager.h"
#include "compile/interpreter_runner.h"
#include "eager/card_matmul.h"
#include "eager/cublaslt.h"
#include "eager/lower.h"
#include "eager/module.h"
#include "sys/code_image.h"

namespace preheat::cli {
namespace {

using preload::StepSpec;

preload::CompileFunction MakeCompile(const BackendContext& context) {
  return [context](const preload::ProgramFamily& family, std::span<const StepSpec> steps) {
    const bool for_this_device = !sys::IsPtxTarget(family.target);
    device::Device* tuning = for_this_device && ModeTunes(family.mode) ? &context.device : nullptr;
    compile::CompilerOptions options =
        MakeCompilerOptions(context.checkpoint, family, context.dtype, context.fullgraph, tuning);
    if (for_this_device) {
      options.threads = context.threads;
      options.resident_clusters = context.device.ResidentClusters();
    }
    compile::Compiler compiler(context.store, std::move(options));
    auto programs = compiler.Compile(steps);
    context.counters += compiler.counters();
    return programs;
  };
}

// On a card: its own products and kernels (compile/card_eager.h).
Backends::Library MakeCardEager(const BackendContext& context) {
  const std::vector<std::string> targets = device::TargetsOrThrow(context.device);
  auto matmul = std::make_shared<eager::CardMatmul>(eager::OpenCublasLt(), context.device);
  Backends::Library library;
  compile::CardEager made = compile::MakeCardEager(context.store, {.config = context.checkpoint.config(),
                                                                   .weight_dtype = context.checkpoint.dtype(),
                                                                   .dtype = context.dtype,
                                                                   .target = targets.front(),
                                                                   .logit_rows = context.logit_rows,
                                                                   .may_compile = context.may_compile});
  library.programs = std::move(made.programs);
  if (made.compiled > 0) {
    library.notes.push_back(fmt::format(
        "eager: {} small kernels for {} were compiled first, which took {:.2f} s; later runs find "
        "them in the cache folder",
        made.compiled, targets.front(), made.compile_seconds));
  }
  library.resolve = [matmul](const std::string& name, const std::string& entry) {
    return matmul->Resolve(name, entry);
  };
  library.release = [matmul] {};  // lives as long as the programs
  return library;
}

Backends::Library MakeEager(const BackendContext& context) {
  if (context.device.library_stream() != nullptr) return MakeCardEager(context);
  auto module = std::make_shared<eager::Module>(eager::Module::Open());
  module->SetThreads(context.threads);
  const tensor::DType weights = context.checkpoint.dtype();
  const tensor::DType activations = context.dtype == tensor::DType::kF32
                                        ? tensor::DType::kF32
                                        : eager::ActivationType(weights, module->MultipliesBf16());
  const ir::Graph graph = capture::CaptureLlama(context.checkpoint.config(),
                                                {.logit_rows = context.logit_rows, .weight_dtype = weights});
  Backends::Library library;
  library.programs.push_back(
      eager::LowerEager(graph, {.name = "prefill_any", .max_rows = 0, .activations = activations}));
  library.programs.push_back(
      eager::LowerEager(graph, {.name = "decode", .max_rows = 1, .activations = activations}));
  library.resolve = [module](const std::string& name, const std::string& entry) {
    return device::Kernel{.host = module->Resolve(name, entry)};
  };
  library.check_step = [module] { module->ThrowIfFailed(); };
  library.release = [module] { module->ReleaseWeights(); };
  return library;
}

std::unique_ptr<session::StepRunner> MakeInterpreter(const BackendContext& context, int64_t capacity) {
  return std::make_unique<compile::InterpreterRunner>(
      context.checkpoint,
      capture::CaptureLlama(context.checkpoint.config(),
                            {.logit_rows = context.logit_rows, .weight_dtype = context.checkpoint.dtype()}),
      capacity);
}

// The module is opened only if a program really has a break. It knows the host's memory alone.
std::function<device::Kernel(const std::string&, const std::string&)> MakeBreaks(
    const BackendContext& context) {
  auto module = std::make_shared<std::optional<eager::Module>>();
  return [module, &device = context.device](const std::string& library, const std::string& entry) {
    if (device.library_stream() != nullptr) {
      throw base::MakeError(base::ErrorKind::kUnsupported, "a program calls {} of {}, which {} cannot run",
                            entry, library, device.id());
    }
    if (!*module) module->emplace(eager::Module::Open());
    return device::Kernel{.host = (*module)->Resolve(library, entry)};
  };
}

}  // namespace

compile::CompilerOptions MakeCompilerOptions(const checkpoint::Checkpoint& checkpoint,
                                             const preload::ProgramFamily& family, tensor::DType dtype,
                                             bool fullgraph, device::Device* tuning) {
  return {.config = checkpoint.config(),
          .weight_dtype = checkpoint.dtype(),
          .dtype = dtype,
          .family = family,
          .fullgraph = fullgraph,
          .tuning_device = tuning};
}

Backends FullBackends() {
  return {.compile = MakeCompile, .eager = MakeEager, .breaks = MakeBreaks, .interpreter = MakeInterpreter};
}

}  // namespace preheat::cli
