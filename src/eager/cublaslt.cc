#include "eager/cublaslt.h"

#include "base/error.h"
#include "sys/dynamic_library.h"
#include "toolchain/cuda_library.h"

namespace preheat::eager {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr char kVariable[] = "PREHEAT_CUBLASLT";
constexpr size_t kOldestMajor = 12;  // the first whose heuristics know sm_90

// 130001 -> 13.0; 12 and earlier: 120304, 110900.
size_t Major(size_t version) {
  return version / 10000;
}

CublasLt Open() {
  sys::DynamicLibrary library = toolchain::OpenCudaLibrary(
      {.what = "cuBLASLt, which eager execution on a card needs (--device cpu does without)",
       .stem = "libcublasLt",
       .package = "nvidia-cublas",
       .variable = kVariable});
  CublasLt table{};
  sys::SymbolFinder find(library);
  find(table.GetVersion, "cublasLtGetVersion");
  find(table.GetStatusString, "cublasLtGetStatusString");
  find(table.Create, "cublasLtCreate");
  find(table.Destroy, "cublasLtDestroy");
  find(table.DescriptionCreate, "cublasLtMatmulDescCreate");
  find(table.DescriptionDestroy, "cublasLtMatmulDescDestroy");
  find(table.DescriptionSet, "cublasLtMatmulDescSetAttribute");
  find(table.LayoutCreate, "cublasLtMatrixLayoutCreate");
  find(table.LayoutDestroy, "cublasLtMatrixLayoutDestroy");
  find(table.PreferenceCreate, "cublasLtMatmulPreferenceCreate");
  find(table.PreferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  find(table.PreferenceSet, "cublasLtMatmulPreferenceSetAttribute");
  find(table.GetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(table.Matmul, "cublasLtMatmul");
  library.KeepOpen();  // it has exit handlers of its own
  const size_t version = table.GetVersion != nullptr ? table.GetVersion() : 0;
  if (!find.found_all() || Major(version) < kOldestMajor) {
    throw MakeError(ErrorKind::kUnsupported,
                    "{}: cuBLASLt {}.{}{}, and eager execution on a card needs version {} or newer; install "
                    "one, or set {} to its file",
                    library.name(), Major(version), version / 100 % 100, find.WithoutText(), kOldestMajor,
                    kVariable);
  }
  return table;
}

}  // namespace

void CublasLt::Check(Status status, const std::string& what) const {
  if (status == kSuccess) return;
  const char* advice = status == kNotInitialized
                           ? "; the card's driver may be older than the library: install the cuBLAS of an "
                             "older CUDA, or a newer driver"
                           : "";
  throw MakeError(ErrorKind::kDevice, "eager execution: {} failed: cuBLASLt says {} ({}){}", what,
                  GetStatusString(status), status, advice);
}

const CublasLt& OpenCublasLt() {
  static const CublasLt table = Open();
  return table;
}

}  // namespace preheat::eager
