// NVIDIA's library of matrix products, opened at run time: libcublasLt and the few of its functions that we
// use, declared here, so that neither building nor starting needs CUDA. Names and numbers are those of the
// cuBLAS manual, part cuBLASLt; they have been the same since CUDA 12.0.
//
// It is sought as $PREHEAT_CUBLASLT (a file), and where toolchain/cuda_library.h looks. A table of functions
// rather than direct calls: a test's library is another table. Matrices are by columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace preheat::eager {

struct CublasLt {
  using Status = int;  // cublasStatus_t
  static constexpr Status kSuccess = 0, kNotInitialized = 1, kNotSupported = 15;

  enum DataType : int { kF32 = 0, kF16 = 2, kBf16 = 14 };  // cudaDataType_t
  // cublasComputeType_t: sums in f32; f32 factors are multiplied as they are, not rounded to TF32.
  static constexpr int kCompute32F = 68;
  static constexpr int32_t kNotTransposed = 0, kTransposed = 1;  // cublasOperation_t
  static constexpr uint32_t kEpilogueNone = 1, kEpilogueBias = 4;
  enum DescriptionAttribute : int { kTransposeA = 3, kTransposeB = 4, kEpilogue = 7, kBiasPointer = 8 };
  enum PreferenceAttribute : int { kMostWorkspaceBytes = 1 };

  using Handle = struct CublasLtHandleTag*;
  using Description = struct CublasLtDescriptionTag*;
  using Layout = struct CublasLtLayoutTag*;
  using Preference = struct CublasLtPreferenceTag*;
  struct Algorithm {
    uint64_t data[8];
  };
  struct Heuristic {
    Algorithm algorithm;
    size_t workspace_bytes;
    Status status;
    float waves;
    int reserved[4];
  };
  size_t (*GetVersion)();  // 120304: 12.3.4; 130000
  const char* (*GetStatusString)(Status status);
  Status (*Create)(Handle* handle);
  Status (*Destroy)(Handle handle);
  Status (*DescriptionCreate)(Description* description, int compute_type, int scale_type);
  Status (*DescriptionDestroy)(Description description);
  Status (*DescriptionSet)(Description description, int attribute, const void* value, size_t bytes);
  Status (*LayoutCreate)(Layout* layout, int type, uint64_t rows, uint64_t columns, int64_t stride);
  Status (*LayoutDestroy)(Layout layout);
  Status (*PreferenceCreate)(Preference* preference);
  Status (*PreferenceDestroy)(Preference preference);
  Status (*PreferenceSet)(Preference preference, int attribute, const void* value, size_t bytes);
  Status (*GetHeuristic)(Handle handle, Description description, Layout a, Layout b, Layout c, Layout d,
                         Preference preference, int wanted, Heuristic* results, int* found);
  // d = alpha a b + beta c, and its bias; alpha and beta are f32 of the host.
  Status (*Matmul)(Handle handle, Description description, const void* alpha, const void* a, Layout a_layout,
                   const void* b, Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d,
                   Layout d_layout, const Algorithm* algorithm, void* workspace, size_t workspace_bytes,
                   void* stream);

  // Throws kDevice: `what` failed, the library's number for it and its text.
  void Check(Status status, const std::string& what) const;
};

// The machine's library, opened once; it stays open for good. Throws kNotFound, saying where it was looked
// for; kUnsupported for a version that is too old.
const CublasLt& OpenCublasLt();

}  // namespace preheat::eager
