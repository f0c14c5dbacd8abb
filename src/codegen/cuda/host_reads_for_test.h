// Whether a name of the machine may read a place of global memory.
#pragma once

#include <cstddef>
#include <string>

#include "codegen/cuda/host_runner_for_test.h"

namespace preheat::codegen::cuda {

enum class Reader { kStream, kEarlier, kDependent, kAsync, kBulk, kBox };
const char* ReaderName(Reader reader);

// What is wrong with `self` reading these bytes so, or "".
std::string CheckRead(const HostFiber& self, Reader reader, const void* p, size_t bytes);
std::string CheckAligned(const char* name, const void* p, size_t bytes);

}  // namespace preheat::codegen::cuda
