#include "compile/interpreter_runner.h"

namespace preheat::compile {

void InterpreterRunner::Step(std::span<const int32_t> ids) {
  const auto weights = [this](std::string_view name, int64_t layer) {
    return checkpoint_.Tensor(ir::BindLayer(name, layer));
  };
  result_ = ir::Interpret(graph_, weights, ids, cache_, {.state = &state_});
}

}  // namespace preheat::compile
