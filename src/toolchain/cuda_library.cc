#include "toolchain/cuda_library.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "sys/env.h"

namespace preheat::toolchain {
namespace {

// What CudaLibraryNames gives, where no variable names the file.
constexpr char kPlaces[] =
    "the loader's search, $CUDA_HOME, $CUDA_PATH, /usr/local/cuda*, and pip's nvidia packages of "
    "$VIRTUAL_ENV, $CONDA_PREFIX, the user and the system";

std::vector<std::string> Glob(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  // Newer versions sort last.
  std::reverse(paths.begin(), paths.end());
  return paths;
}

}  // namespace

std::vector<std::string> CudaLibraryNames(const char* variable, std::string_view stem) {
  if (const auto named = sys::GetEnv(variable)) return {*named};
  std::vector<std::string> names;
  for (const char* version : {".13", ".12", ""}) names.push_back(fmt::format("{}.so{}", stem, version));
  std::vector<std::string> folders;
  for (const char* home_variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const auto home = sys::GetEnv(home_variable)) folders.push_back(*home + "/lib64");
  }
  folders.insert(folders.end(), {"/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib"});
  // pip: nvidia/cuda_nvrtc/lib, nvidia/cublas/lib (CUDA 12), nvidia/cu13/lib (CUDA 13).
  for (const char* root : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const auto prefix = sys::GetEnv(root))
      folders.push_back(*prefix + "/lib/python3*/site-packages/nvidia/*/lib");
  }
  if (const auto home = sys::GetEnv("HOME")) {
    folders.push_back(*home + "/.local/lib/python3*/site-packages/nvidia/*/lib");
  }
  folders.insert(folders.end(), {"/usr/local/lib/python3*/*-packages/nvidia/*/lib",
                                 "/usr/lib/python3*/*-packages/nvidia/*/lib"});
  for (const std::string& folder : folders) {
    for (std::string& path : Glob(fmt::format("{}/{}.so*", folder, stem))) names.push_back(std::move(path));
  }
  return names;
}

sys::DynamicLibrary OpenCudaLibrary(const CudaLibrary& library) {
  std::string reason;
  auto opened = sys::DynamicLibrary::Open(CudaLibraryNames(library.variable, library.stem), &reason);
  if (opened) return std::move(*opened);
  throw base::MakeError(base::ErrorKind::kNotFound,
                        "no {}: install a CUDA toolkit or pip's {}, or set {} to its {}.so; looked in {}: {}",
                        library.what, library.package, library.variable, library.stem,
                        sys::GetEnv(library.variable) ? "that file alone" : kPlaces, reason);
}

}  // namespace preheat::toolchain
