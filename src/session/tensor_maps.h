// Tensor maps of a launch record, with addresses and the step's most rows put in.
#pragma once

#include <vector>

#include "device/device.h"
#include "program/program.h"

namespace preheat::session {

// `operands`: the addresses of the launch's operands; `rows`: the most that the step is given. Throws what
// the device throws.
std::vector<device::TensorMap> EncodeTensorMaps(const device::Device& device,
                                                const std::vector<program::TensorMap>& maps,
                                                void* const* operands, int64_t rows);

}  // namespace preheat::session
