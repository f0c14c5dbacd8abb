// The parts of a Matmul region's text that its families of schedules share.
#pragma once

#include <string>

#include "codegen/matmul_spec.h"

namespace preheat::codegen::matmul {

// The unit of a CPU's products.
Unit UnitOf(const Spec& spec, const Target& target);

// Elements of a CPU's staged row: k rounded up to whole vectors of any unit, zeros behind.
int64_t StagedElements(const Spec& spec, const Target& target);

// True where x, as it lies in memory, is what Broadcast reads: rows of multiplicands that need no stage.
bool ReadsInPlace(const ir::Graph& graph, const Spec& spec, const Target& target);

// How activations go from region to region: as elements, or as Flagged<element>, words of a dialect that say whether
// they are there. Logits are elements always.
enum class Handed { kPlain, kFlagged };

// Types X, NormW, constants kK, kStaged (a staged row's elements), kXStride: what StageRow needs.
std::string StageOpeningText(const ir::Graph& graph, const Spec& spec, int64_t staged, Handed handed = Handed::kPlain);
// The same, types W, Bias, Out, Residual and their strides.
std::string OpeningText(const ir::Graph& graph, const Spec& spec, int64_t staged, Handed handed = Handed::kPlain);

// ColumnsOf(part): the columns of each part, a constant where the part is.
std::string ColumnsText(const Spec& spec);

// TileAt(t): the t-th tile of a product of one row, kRows neighbouring columns of each list, as {part,
// column, count, part1, column1}; part1 and column1 are the second list's, where there is one. Needs kRows,
// ColumnsOf and, for rotary_append, FinishText before it.
std::string ColumnTileText(const Spec& spec);
// How many there are. REQUIRES, for rotary_append: rows divides half a head.
int64_t ColumnTiles(const Spec& spec, int64_t rows);

// Operands kX, kNorm that StageRow reads.
void AddStageOperands(const Spec& spec, OperandList* operands);

// StageRow(args, row, Element* to): the prologue of one row. Names kX, kNorm.
std::string StageText(const Spec& spec);

// Operands kWeight0.., kBias0.., kResidual, kRotary, kKeys, kValues, kOut that products and Finish use.
void AddProductOperands(const Spec& spec, OperandList* operands);

// Where LoadRun, LoadDependentRun and StoreRun, of the `count` first elements of a vector, come from.
enum class Runs { kOfVectors, kOfTheDialect };

// Before(args, row, part, column, count): what the epilogue of these columns reads beside the sums, as an
// Early; it may be called before they are there. Finish(args, row, part, column, count, y0, y1, early): the
// epilogue of `count` <= LANES neighbouring columns of a row. y0 are columns `column`.. of `part`; y1, where
// the epilogue has two lists, the columns that go with them: the same of part 1 (silu_mul), those half a head
// further (rotary_append).
std::string FinishText(const Spec& spec, const ir::Graph& graph, const Target& target,
                       Runs runs = Runs::kOfVectors, Handed handed = Handed::kPlain);

}  // namespace preheat::codegen::matmul
