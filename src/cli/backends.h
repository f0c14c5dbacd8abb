// What the full binary can do beyond preloading: compile, run eager, interpret.
#pragma once

#include "cli/engine.h"
#include "compile/compiler.h"

namespace preheat::cli {

Backends FullBackends();

// Options of a compiler for a model and target; `tuning` names the device to measure on where the mode asks
// for it.
compile::CompilerOptions MakeCompilerOptions(const checkpoint::Checkpoint& checkpoint,
                                             const preload::ProgramFamily& family, tensor::DType dtype,
                                             bool fullgraph, device::Device* tuning);

}  // namespace preheat::cli
