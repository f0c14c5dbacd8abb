// The library kernels of eager execution on a card ("library:cublaslt", kernel_table.h): matrix products by
// cuBLASLt, put into the device's own stream one by one.
//
// For each shape that comes along the library is asked once which of its kernels it would take (its
// heuristic's first answer, nothing is measured). One thread at a time, the device's.
//
// Weights are found by their address: the device's weights must stay where they are.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "device/device.h"
#include "eager/cublaslt.h"
#include "tensor/dtype.h"

namespace preheat::eager {

class CardMatmul {
 public:
  // `library` and `device` outlive it. REQUIRES: the device has a library_stream. Errors: Device.
  CardMatmul(const CublasLt& library, device::Device& device);
  ~CardMatmul();
  CardMatmul(const CardMatmul&) = delete;
  CardMatmul& operator=(const CardMatmul&) = delete;

  // For session::Bindings::library: linear and linear_bias of "cublaslt". The kernel is this object's: it
  // must not be called when that is gone, and throws kDevice, or kUnsupported for types that cannot be
  // multiplied. Errors: Unsupported for others.
  device::Kernel Resolve(const std::string& library, const std::string& entry);

  // Bytes of weights that were widened: the library multiplies two factors of one type only, so narrower
  // weights than activations are widened to f32 at their first use, by way of the host.
  int64_t widened_bytes() const;

 private:
  // y [rows, out] = x [rows, in] weight^T [in, out] + bias, by rows; strides in elements.
  struct Shape {
    int64_t rows = 0, in = 0, out = 0;
    int64_t x_stride = 0, weight_stride = 0, out_stride = 0;
    tensor::DType type = tensor::DType::kBf16;      // of both factors
    tensor::DType out_type = tensor::DType::kBf16;  // and of the bias
    bool bias = false;

    auto operator<=>(const Shape&) const = default;
  };
  struct Plan {
    CublasLt::Description description = nullptr;
    CublasLt::Layout weight = nullptr, x = nullptr, out = nullptr;
    CublasLt::Algorithm algorithm{};
  };

  // `self` is a CardMatmul.
  static void Linear(const ph_args* args, int64_t tile_begin, int64_t tile_end, void* self);
  static void LinearBias(const ph_args* args, int64_t tile_begin, int64_t tile_end, void* self);
  void Run(const ph_args& args, bool bias);
  const void* Widened(const void* weight, tensor::DType dtype, int64_t count);
  const Plan& PlanOf(const Shape& shape, const void* bias);
  void MakePlan(const Shape& shape, const void* bias, Plan& plan) const;
  void Drop(const Plan& plan) const;

  const CublasLt& library_;
  device::Device& device_;
  void* stream_;
  device::Buffer workspace_;
  CublasLt::Handle handle_ = nullptr;
  std::map<Shape, Plan> plans_;
  std::map<const void*, device::Buffer> widened_;  // by the narrow weight's address
};

}  // namespace preheat::eager
