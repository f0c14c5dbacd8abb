// Where NVIDIA's libraries lie on a machine that has them: a CUDA toolkit, or the packages that pip installs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace preheat::toolchain {

// What to give sys::DynamicLibrary::Open for `stem` ("libnvrtc"), the likeliest first: the file that the
// environment variable names, and then nothing else; the loader's own search; $CUDA_HOME and $CUDA_PATH;
// toolkits under /usr/local; pip's packages of the active environment, of the user, of the system.
std::vector<std::string> CudaLibraryNames(const char* variable, std::string_view stem);
// The same for messages, where no variable names the file.
inline constexpr char kCudaLibraryPlaces[] =
    "the loader's search, $CUDA_HOME, $CUDA_PATH, /usr/local/cuda*, and pip's nvidia packages of "
    "$VIRTUAL_ENV, "
    "$CONDA_PREFIX, the user and the system";

}  // namespace preheat::toolchain
