// Numbers that stand for weights and activations where only speed matters.
#pragma once

#include "device/device.h"

namespace preheat::compile {

// Random numbers of one magnitude with both signs: no zeros, no denormals, no NaN, whether they are read as
// bf16, f16 or f32. A megabyte of them, over and over.
void FillPlausibly(device::Device& device, const device::Buffer& buffer);

}  // namespace preheat::compile
