// The prologues' text on CUDA: a block stages one row of multiplicands.
//
// StageBefore is what can be read before the wait: a norm's weights. StageRow then needs one read of x, which
// stays in registers between the two looks that a norm takes. Both are in namespace team, whose vectors lie
// over the block.
#pragma once

#include <string>

#include "codegen/matmul_spec.h"

namespace preheat::codegen::cuda {

// team::StageBefore(args) and team::StageRow(args, row, to, before), for a block of `threads` threads whose
// scratch is at SharedMemory() + scratch_at. `to` gets StagedElements elements, zeros behind the last.
// REQUIRES: the prologue is not merge.
std::string StageWords(const ir::Graph& graph, const matmul::Spec& spec, int threads, int64_t scratch_at);

// The body of these words alone. `rows`: LoadDependentRow(row, vectors) for other pointers than those to
// elements.
std::string StageBody(const matmul::Spec& spec, std::string_view rows);

// The same for rows that are handed on (codegen::HandOn): StageRow leaves them unscaled, times the norm's
// weights, and returns the sum of a row's squares in all threads.
std::string HandOnWords(const matmul::Spec& spec, int threads, int64_t scratch_at);

// k rounded up to whole vectors of a team.
int64_t StagedElements(const matmul::Spec& spec, int threads);

}  // namespace preheat::codegen::cuda
