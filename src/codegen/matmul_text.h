// The parts of a Matmul region's text that its families of schedules share.
#pragma once

#include <string>

#include "codegen/matmul_spec.h"

namespace preheat::codegen::matmul {

// Elements of a staged row: k rounded up to whole vectors of any unit, zeros behind.
int64_t StagedElements(const Spec& spec, const Target& target);

// True where x, as it lies in memory, is what Broadcast reads: rows of multiplicands that need no stage.
bool ReadsInPlace(const ir::Graph& graph, const Spec& spec, const Target& target);

// Prelude, types W, Bias, X, NormW, Out, Residual, constants kK, kStaged, strides.
std::string OpeningText(const ir::Graph& graph, const Spec& spec, const Target& target);

// kColumns[part]: the columns of each part.
std::string ColumnsText(const Spec& spec);

// Operands kX, kNorm that StageRow reads.
void AddStageOperands(const Spec& spec, OperandList* operands);

// StageRow(args, row, Element* to): the prologue of one row. Names kX, kNorm.
std::string StageText(const Spec& spec);

// Operands kWeight0.., kBias0.., kResidual, kRotary, kKeys, kValues, kOut that products and Finish use.
void AddProductOperands(const Spec& spec, OperandList* operands);

// Finish(args, row, part, column, count, y0, y1): the epilogue of `count` <= LANES neighbouring columns of a
// row. y0 are columns `column`.. of `part`; y1, where the epilogue has two lists, the columns that go with
// them: the same of part 1 (silu_mul), those half a head further (rotary_append).
std::string FinishText(const Spec& spec, const ir::Graph& graph, const Target& target);

}  // namespace preheat::codegen::matmul
