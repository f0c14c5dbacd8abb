// The module's kernels (kernel_table.h says what each does) and what they share. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/kernel_abi.h"
#include "eager/module_api.h"

namespace preheat::eager {

void Embedding(const ph_args& args);
void RmsNorm(const ph_args& args);
void Linear(const ph_args& args);
void LinearBias(const ph_args& args);
void Rotary(const ph_args& args);
void Append(const ph_args& args);
void Attention(const ph_args& args);
void Add(const ph_args& args);
void Mul(const ph_args& args);
void Silu(const ph_args& args);
void LastRow(const ph_args& args);  // copies the last of x's rows
void Copy(const ph_args& args);
void Sample(const ph_args& args);
void Probe(const ph_args& args);

void SetProbe(ph_probe probe, void* user);

// Memory that keeps its contents until the next call for the same purpose; 64-byte aligned. Throws
// std::bad_alloc.
enum class Scratch { kLinearIn, kLinearOut, kAttention, kSample, kProbe, kCount };
float* ScratchFloats(Scratch purpose, int64_t count);

// Linear's packed weights and primitives.
int64_t PackedBytes();
void ReleaseWeights();
bool MultipliesBf16();

}  // namespace preheat::eager
