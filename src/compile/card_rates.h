// What a card can do at best, as device/cpu/measure.h says it of a CPU. Behind `preheat devices --measure`.
#pragma once

#include "device/device.h"
#include "toolchain/compiler.h"

namespace preheat::compile {

struct CardRates {
  double read_bytes_per_s = 0;  // streaming reads, all multiprocessors
  double bf16_flops_per_s = 0;  // products of matrices in fp32, by the instructions that our own kernels use
};

// Takes an eighth of the card's memory, at most 2 GiB, and a second or two. Throws kIncompatible where the
// card runs none of our targets, ToolFailed, kDevice.
CardRates MeasureCard(device::Device& device, const toolchain::Compiler& compiler);

}  // namespace preheat::compile
