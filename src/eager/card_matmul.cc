#include "eager/card_matmul.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "eager/kernel_table.h"
#include "tensor/tensor_view.h"

namespace preheat::eager {
namespace {

using base::ErrorKind;
using base::MakeError;
using tensor::DType;

constexpr uint64_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for sm_90

CublasLt::DataType DataTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CublasLt::kF32;
    case DType::kF16:
      return CublasLt::kF16;
    case DType::kBf16:
      return CublasLt::kBf16;
    default:
      break;  // integers
  }
  throw MakeError(ErrorKind::kUnsupported, "eager execution: cuBLASLt does not multiply {}",
                  tensor::Name(dtype));
}

// Of the i-th operand (kernel_table.h).
struct Descriptor {
  DType dtype;
  int64_t rows, columns, stride;

  Descriptor(const int64_t* constants, int operand) {
    const int64_t* const numbers = constants + operand * kDescriptorNumbers;
    dtype = static_cast<DType>(numbers[0]);
    rows = numbers[1];
    columns = numbers[2];
    stride = numbers[3];
  }
};

}  // namespace

CardMatmul::CardMatmul(const CublasLt& library, device::Device& device)
    : library_(library),
      device_(device),
      stream_(device.library_stream()),
      workspace_(device.Allocate(kWorkspaceBytes)) {  // makes the card the thread's own, too
  CHECK(stream_ != nullptr);
  library_.Check(library_.Create(&handle_), "starting cuBLASLt");
}

CardMatmul::~CardMatmul() {
  for (const auto& [shape, plan] : plans_) Drop(plan);
  (void)library_.Destroy(handle_);
}

void CardMatmul::Drop(const Plan& plan) const {
  for (CublasLt::Layout layout : {plan.weight, plan.x, plan.out}) {
    if (layout != nullptr) (void)library_.LayoutDestroy(layout);
  }
  if (plan.description != nullptr) (void)library_.DescriptionDestroy(plan.description);
}

device::Kernel CardMatmul::Resolve(const std::string& library, const std::string& entry) {
  if (library == kCardLibraryName && entry == "linear") return {.host = Linear, .device = this};
  if (library == kCardLibraryName && entry == "linear_bias") return {.host = LinearBias, .device = this};
  throw MakeError(ErrorKind::kUnsupported,
                  "program: kernel {} of library \"{}\" does not run on a card; there are only linear and "
                  "linear_bias of \"{}\"",
                  entry, library, kCardLibraryName);
}

void CardMatmul::Linear(const ph_args* args, int64_t, int64_t, void* self) {
  static_cast<CardMatmul*>(self)->Run(*args, false);
}

void CardMatmul::LinearBias(const ph_args* args, int64_t, int64_t, void* self) {
  static_cast<CardMatmul*>(self)->Run(*args, true);
}

// By columns, rows are columns: y^T [out, rows] = weight [out, in] x^T [in, rows], where the weight, as it
// lies, is the transpose of what is wanted.
void CardMatmul::Run(const ph_args& args, bool bias) {
  const Descriptor y(args.constants, 0), x(args.constants, 1), weight(args.constants, 2);
  const Shape shape = {.rows = y.rows != 0 ? y.rows : args.rows,
                       .in = x.columns,
                       .out = y.columns,
                       .x_stride = x.stride,
                       .weight_stride = weight.stride,
                       .out_stride = y.stride,
                       .type = x.dtype,
                       .out_type = y.dtype,
                       .bias = bias};
  const void* weights = args.operands[2];
  const void* bias_address = bias ? args.operands[3] : nullptr;
  if (weight.dtype != x.dtype) {
    if (x.dtype != DType::kF32) {
      throw MakeError(
          ErrorKind::kUnsupported,
          "eager execution: weights of {} and activations of {}: cuBLASLt multiplies one type only",
          tensor::Name(weight.dtype), tensor::Name(x.dtype));
    }
    weights = Widened(weights, weight.dtype, weight.rows * weight.columns);
    if (bias) bias_address = Widened(bias_address, weight.dtype, y.columns);
  }
  const Plan& plan = PlanOf(shape, bias_address);
  if (bias) {
    library_.Check(library_.DescriptionSet(plan.description, CublasLt::kBiasPointer, &bias_address,
                                           sizeof(bias_address)),
                   "setting a bias");
  }
  const float one = 1, zero = 0;
  void* const out = args.operands[0];
  const CublasLt::Status status = library_.Matmul(
      handle_, plan.description, &one, weights, plan.weight, args.operands[1], plan.x, &zero, out, plan.out,
      out, plan.out, &plan.algorithm, workspace_.data(), kWorkspaceBytes, stream_);
  if (status == CublasLt::kSuccess) return;  // hundreds of calls a token: no text is made for nothing
  library_.Check(status,
                 fmt::format("multiplying [{}, {}] by [{}, {}]", shape.rows, shape.in, shape.in, shape.out));
}

const void* CardMatmul::Widened(const void* weight, DType dtype, int64_t count) {
  device::Buffer& wide = widened_[weight];
  if (wide.data() != nullptr) return wide.data();
  wide = device_.Allocate(static_cast<size_t>(count) * sizeof(float));
  constexpr int64_t kPiece = 1 << 24;  // elements: 64 MB of f32 on the host
  std::vector<std::byte> narrow;
  std::vector<float> values;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const int64_t elements = std::min(kPiece, count - begin);
    const auto bytes = static_cast<size_t>(tensor::Bytes(dtype));
    narrow.resize(static_cast<size_t>(elements) * bytes);
    values.resize(static_cast<size_t>(elements));
    device_.Read(narrow, static_cast<const std::byte*>(weight) + static_cast<size_t>(begin) * bytes);
    tensor::TensorView(dtype, {elements}, narrow).ReadFloats(0, values);
    device_.Write(wide.data() + static_cast<size_t>(begin) * sizeof(float), std::as_bytes(std::span(values)));
  }
  return wide.data();
}

int64_t CardMatmul::widened_bytes() const {
  int64_t bytes = 0;
  for (const auto& [weight, wide] : widened_) bytes += static_cast<int64_t>(wide.size());
  return bytes;
}

const CardMatmul::Plan& CardMatmul::PlanOf(const Shape& shape, const void* bias) {
  const auto [found, is_new] = plans_.try_emplace(shape);
  if (is_new) {
    try {
      MakePlan(shape, bias, found->second);
    } catch (...) {  // half a plan is none
      Drop(found->second);
      plans_.erase(found);
      throw;
    }
  }
  return found->second;
}

void CardMatmul::MakePlan(const Shape& shape, const void* bias, Plan& plan) const {
  const CublasLt& call = library_;
  const auto check = [&](CublasLt::Status status) {
    call.Check(status, fmt::format("choosing a kernel for [{}, {}] by [{}, {}] of {}", shape.rows, shape.in,
                                   shape.in, shape.out, tensor::Name(shape.type)));
  };
  const auto set = [&](int attribute, const auto& value) {
    check(call.DescriptionSet(plan.description, attribute, &value, sizeof(value)));
  };
  const auto size = [](int64_t number) { return static_cast<uint64_t>(number); };
  check(call.DescriptionCreate(&plan.description, CublasLt::kCompute32F, CublasLt::kF32));
  set(CublasLt::kTransposeA, CublasLt::kTransposed);
  set(CublasLt::kTransposeB, CublasLt::kNotTransposed);
  set(CublasLt::kEpilogue, shape.bias ? CublasLt::kEpilogueBias : CublasLt::kEpilogueNone);
  if (shape.bias) set(CublasLt::kBiasPointer, bias);
  const int type = DataTypeOf(shape.type);
  check(call.LayoutCreate(&plan.weight, type, size(shape.in), size(shape.out), shape.weight_stride));
  check(call.LayoutCreate(&plan.x, type, size(shape.in), size(shape.rows), shape.x_stride));
  check(call.LayoutCreate(&plan.out, DataTypeOf(shape.out_type), size(shape.out), size(shape.rows),
                          shape.out_stride));
  struct Owned {
    const CublasLt& call;
    CublasLt::Preference preference = nullptr;
    ~Owned() {
      if (preference != nullptr) (void)call.PreferenceDestroy(preference);
    }
  } owned{call};
  check(call.PreferenceCreate(&owned.preference));
  check(call.PreferenceSet(owned.preference, CublasLt::kMostWorkspaceBytes, &kWorkspaceBytes,
                           sizeof(kWorkspaceBytes)));
  CublasLt::Heuristic best{};
  int found = 0;
  check(call.GetHeuristic(handle_, plan.description, plan.weight, plan.x, plan.out, plan.out,
                          owned.preference, 1, &best, &found));
  check(found == 0 ? CublasLt::kNotSupported : best.status);
  plan.algorithm = best.algorithm;
}

}  // namespace preheat::eager
