// Two kernels that show what a card can do at best: one reads memory, one multiplies bf16 with the
// instructions that our products use on the target. Behind `preheat devices --measure`.
//
// REQUIRES of targets: IsCuda().
#pragma once

#include <cstdint>
#include <string>

#include "abi/kernel_abi.h"
#include "codegen/codegen.h"

namespace preheat::codegen::cuda {

// Kernel "read_all". Operands: the buffer; a 32-bit word for each thread of the launch, the exclusive or of
// what it has read. Rows: 16-byte pieces of the buffer, a multiple of pieces_per_block.
struct ReadKernel {
  std::string source;
  ph_block_shape blocks;
  int64_t pieces_per_block = 0;  // that a block has under way at once
};
ReadKernel MakeReadKernel(const Target& target);

// Kernel "multiply_all": each block adds up `rounds` times the product x w^T of the same matrices. Operands:
// x [rows, k] and w [columns, k], bf16; the sums of each block, f32 [blocks, rows, columns]. Rows of the
// launch: rounds.
struct MultiplyKernel {
  std::string source;
  ph_block_shape blocks;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t k = 0;

  double FlopsPerRound() const { return 2.0 * static_cast<double>(rows * columns * k); }  // of a block
};
MultiplyKernel MakeMultiplyKernel(const Target& target);

}  // namespace preheat::codegen::cuda
