// The vocabulary that CPU kernel bodies are written against, as text that opens a generated unit.
//
// What makes one body serve all types and targets is the *unit*: the 32-bit multiplicand of Dot. With bf16
// pairs one unit holds two neighbouring bf16 elements (KPU = 2) and Dot is vdpbf16ps; otherwise one unit is
// one float (KPU = 1), weights of any type are widened exactly when they are loaded, and Dot is a fused
// multiply-add. A row of staged multiplicands is an array of Element (bf16 or f32), which, as units, is an
// array of unit.
//
// The vocabulary, by example (LANES lanes a vector; 16 or 8):
//   types       i32 u32 i64 u64 u16; storage elements bf16, f16, f32 (no alignment assumed); VF = LANES
//               floats; VU = LANES units (signed 32-bit lanes, also the result of comparisons); unit; Element
//   memory      Load(p) Store(p, v): LANES elements as floats; LoadTail(p, n) StoreTail(p, v, n): the first n
//               < LANES only, not a byte beyond; Get(p) Put(p, x): one element
//               LoadDependent(p) LoadDependentTail(p, n): of what an earlier kernel made
//               StoreEach<T>(v, n, address): the i-th of n elements to address(i)
//               StoreElements(p, v) StoreElementsTail(p, v, n): round to the math type and store as Elements
//               LoadUnits(p): LANES units from LANES * KPU elements at p; LoadUnitsTail(p, n): n elements,
//               zeros after; Broadcast(p): one unit in every lane; StoreUnits(p, v)
//   arithmetic  Dot(acc, a, b) on units; Fma(a, b, acc) Splat(x) Max(a, b) Min(a, b) Select(mask, a, b);
//               Exp(v) Silu(v) Rsqrt(x); RoundToBf16(v)
//   across      Sum(v); MaxLane(v); SumEach<N>(a): lane j is the sum of a[j % N]; Transpose(rows): LANES
//   vectors of units other       Operand<T>(args, i), PrefetchL1(p) PrefetchL2(p), INLINE CONSTANT NOINLINE
//   UNROLL NO_UNROLL ENTRY
// Only what is in this list may be used in bodies: another device's prelude gives the same words its meaning.
#pragma once

#include <string>

#include "codegen/codegen.h"

namespace preheat::codegen {

enum class Unit {
  kF32,        // KPU = 1
  kBf16InF32,  // KPU = 1; activations are rounded to bf16 when staged, and multiplied as floats
  kBf16Pair,   // KPU = 2; REQUIRES: target.bf16_dot
};

// The unit for products of weights (or cached values) of type `stored` in arithmetic `math` (kF32 or kBf16).
Unit UnitFor(tensor::DType stored, tensor::DType math, const Target& target);

// Elements per unit.
int ElementsPerUnit(Unit unit);

std::string CpuPrelude(const Target& target, Unit unit);

}  // namespace preheat::codegen
