// cuBLASLt on a card that is this machine (host_cuda.h): a library's table that multiplies on the host,
// strictly: attributes, layouts and sizes that the real one would refuse are refused.
#pragma once

#include <cstdint>

#include "eager/cublaslt.h"

namespace preheat::testing {

const eager::CublasLt& HostCublasLt();

// What it was asked for since the process began.
struct HostCublasLtCalls {
  int64_t products = 0;
  int64_t heuristics = 0;
  int64_t alive = 0;  // handles, descriptions, layouts and preferences that were not destroyed
};
HostCublasLtCalls& TheCublasLtCalls();

}  // namespace preheat::testing
