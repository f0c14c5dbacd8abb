// What a launch of code "library:eager" means: the agreement between lower.h, which writes such launches, and
// the module (module/), which runs them. A kernel runs its whole operation as one tile, on the module's own
// threads.
//
// Operands stand in the order below, the written one first. `constants` holds, for each operand, a descriptor
// of four numbers {dtype, rows, columns, stride}, and then the kernel's own numbers:
//   dtype    the value of tensor::DType
//   rows     0: the step's rows (ph_args::rows), else that many
//   columns  elements of a row
//   stride   elements from one row to the next
// Real numbers are the bits of a float. The caches are [kv_heads, capacity, head_dim], their descriptors
// {dtype, kv_heads, head_dim, head_dim}; weights are row-major as in the checkpoint ([out, in]).
//
//   name       operands                                own numbers
//   embedding  out, ids, table
//   rms_norm   out, x, weight                          eps
//   linear     out, x, weight
//   linear_bias  out, x, weight, bias
//   rotary     out, x, rotary table                    head_dim
//   append     key cache, value cache, k, v            kv_heads, head_dim
//   attention  out, q, key cache, value cache          heads, kv_heads, head_dim, scale
//   add, mul   out, a, b                               (out may be a or b)
//   silu       out, x                                  (out may be x)
//   last_row   out [1, h], x
//   copy       out, x
//   sample     state, logits [1 or n, vocab]           (the last row is sampled)
//   probe      out, x                                  (the probe callback sees the rows)
#pragma once

#include <cstdint>

namespace preheat::eager {

inline constexpr char kLibraryName[] = "eager";         // in "library:eager"
inline constexpr char kCardLibraryName[] = "cublaslt";  // on a card: linear and linear_bias alone
inline constexpr int64_t kDescriptorNumbers = 4;        // dtype, rows, columns, stride
inline constexpr uint32_t kModuleVersion = 1;           // of this page; PH_ABI_VERSION is checked besides

}  // namespace preheat::eager
