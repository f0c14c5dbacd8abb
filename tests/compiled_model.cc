#include "compiled_model.h"

#include "eager/module.h"
#include "preload/provide.h"
#include "sys/cpu.h"
#include "tensor/shape.h"

namespace preheat::testing {

CompiledModel::CompiledModel(const checkpoint::Checkpoint& checkpoint, store::Store& store,
                             const CompiledModelOptions& options)
    : dtype_(options.dtype.empty() ? checkpoint.dtype() : tensor::ParseDType(options.dtype).value()),
      device_({.threads = options.threads}) {
  const preload::ProgramFamily family = {.config_hash = checkpoint::ConfigHash(checkpoint.config()),
                                         .weight_dtype = std::string(tensor::Name(checkpoint.dtype())),
                                         .dtype = std::string(tensor::Name(dtype_)),
                                         .mode = "default",
                                         .target = options.target};
  const preload::CompileFunction compile = [&](const preload::ProgramFamily&, std::span<const preload::StepSpec> steps) {
    compile::Compiler compiler(store, {.config = checkpoint.config(),
                                       .weight_dtype = checkpoint.dtype(),
                                       .dtype = dtype_,
                                       .family = family,
                                       .fullgraph = options.fullgraph,
                                       .probe_layers = options.probe_layers,
                                       .threads = options.threads});
    auto programs = compiler.Compile(steps);
    counters_ = compiler.counters();
    report_ = compiler.report();
    return programs;
  };
  preload::CompileCounters found;
  programs_ = preload::ProvidePrograms(store, family, options.steps, compile, found);
  const session::Bindings bindings = {
      .weight = [&](const std::string& name, const program::Weight& weight) -> const void* {
        return checkpoint.Tensor(name, tensor::Shape(weight.shape)).data();
      },
      .code =
          [&](const std::string& hash) {
            held_.push_back(std::move(*store.Get(store::EntryKind::kCode, hash)));
            return held_.back().span();
          },
      .library =
          [](const std::string& library, const std::string& entry) {
            static const eager::Module module = eager::Module::Open();
            return module.Resolve(library, entry);
          }};
  session_ = std::make_unique<session::Session>(device_, programs_, bindings,
                                                session::SessionOptions{.capacity = options.capacity});
}

std::vector<std::string> RunnableTargets() {
  return sys::SupportedCpuTargets(sys::ThisCpu().features);
}

}  // namespace preheat::testing
