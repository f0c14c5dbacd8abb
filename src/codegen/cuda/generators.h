// The CUDA dialect's generators.
#pragma once

#include "codegen/generator.h"

namespace preheat::codegen {

Generator CudaGeneratorOf(ir::Op op);

}  // namespace preheat::codegen
