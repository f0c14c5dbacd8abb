// Where NVIDIA's libraries lie on a machine that has them: a CUDA toolkit, or the packages that pip installs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sys/dynamic_library.h"

namespace preheat::toolchain {

// What to give sys::DynamicLibrary::Open for `stem` ("libnvrtc"), the likeliest first: the file that the
// environment variable names, and then nothing else; the loader's own search; $CUDA_HOME and $CUDA_PATH;
// toolkits under /usr/local; pip's packages of the active environment, of the user, of the system.
std::vector<std::string> CudaLibraryNames(const char* variable, std::string_view stem);

struct CudaLibrary {
  const char* what;      // "NVRTC, which compiles for NVIDIA GPUs"
  const char* stem;      // "libnvrtc"
  const char* package;   // of pip
  const char* variable;  // may name the file
};
// The first that opens. Throws kNotFound: what to install, where it was looked for, and why each did not
// open.
sys::DynamicLibrary OpenCudaLibrary(const CudaLibrary& library);

}  // namespace preheat::toolchain
