#include "compiled_model.h"

#include <gtest/gtest.h>

#include "device/open.h"
#include "eager/module.h"
#include "host_cuda.h"
#include "preload/provide.h"
#include "sys/cpu.h"
#include "tensor/shape.h"

namespace preheat::testing {
namespace {

bool IsCuda(const std::string& target) {
  return codegen::ParseTarget(target).IsCuda();
}

std::unique_ptr<device::Device> OpenDevice(const CompiledModelOptions& options) {
  if (!IsCuda(options.target))
    return std::make_unique<device::CpuDevice>(device::ThreadPoolOptions{.threads = options.threads});
  TheHostCard().capability =
      options.capability != 0 ? options.capability : codegen::ParseTarget(options.target).sm;
  return OpenCard();
}

}  // namespace

CompiledModel::CompiledModel(const checkpoint::Checkpoint& checkpoint, store::Store& store,
                             const CompiledModelOptions& options)
    : dtype_(options.dtype.empty() ? checkpoint.dtype() : tensor::ParseDType(options.dtype).value()),
      device_(OpenDevice(options)) {
  std::vector<device::HostTensor> tensors;
  for (const checkpoint::ExpectedTensor& expected : checkpoint::ExpectedTensors(checkpoint.config())) {
    tensors.push_back({expected.name, checkpoint.Tensor(expected.name, expected.shape).bytes()});
  }
  weights_ = device_->PlaceWeights(std::move(tensors));
  const preload::ProgramFamily family = {.config_hash = checkpoint::ConfigHash(checkpoint.config()),
                                         .weight_dtype = std::string(tensor::Name(checkpoint.dtype())),
                                         .dtype = std::string(tensor::Name(dtype_)),
                                         .mode = "default",
                                         .target = options.target};
  const preload::CompileFunction compile = [&](const preload::ProgramFamily&,
                                               std::span<const preload::StepSpec> steps) {
    compile::Compiler compiler(store, {.config = checkpoint.config(),
                                       .weight_dtype = checkpoint.dtype(),
                                       .dtype = dtype_,
                                       .family = family,
                                       .fullgraph = options.fullgraph,
                                       .probe_layers = options.probe_layers,
                                       .threads = options.threads,
                                       .compiler = IsCuda(options.target) ? CardCompiler() : nullptr,
                                       .schedules = options.schedules});
    auto programs = compiler.Compile(steps);
    counters_ = compiler.counters();
    report_ = compiler.report();
    return programs;
  };
  preload::CompileCounters found;
  programs_ = preload::ProvidePrograms(store, family, options.steps, compile, found);
  const session::Bindings bindings = {
      .weight = [&](const std::string& name, const program::Weight& weight) -> const void* {
        EXPECT_EQ(checkpoint.Tensor(name).shape(), tensor::Shape(weight.shape));
        return weights_->Address(name);
      },
      .code =
          [&](const std::string& hash) {
            held_.push_back(std::move(*store.Get(store::EntryKind::kCode, hash)));
            return held_.back().span();
          },
      .library =
          [](const std::string& library, const std::string& entry) {
            static const eager::Module module = eager::Module::Open();
            return device::Kernel{.host = module.Resolve(library, entry)};
          },
      .await_weights = [this] { weights_->Wait(); }};
  session_ = std::make_unique<session::Session>(*device_, programs_, bindings,
                                                session::SessionOptions{.capacity = options.capacity});
}

std::vector<std::string> RunnableTargets() {
  if (RealCard() != nullptr) {
    const std::unique_ptr<device::Device> card = device::Open(RealCard());
    std::vector<std::string> targets = card->Targets();
    for (std::string& target : card->PtxTargets()) targets.push_back(std::move(target));
    return targets;
  }
  return sys::SupportedCpuTargets(sys::ThisCpu().features);
}

}  // namespace preheat::testing
