#include "host_cublaslt.h"

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace preheat::testing {
namespace {

using eager::CublasLt;
using tensor::DType;

constexpr CublasLt::Status kInvalid = 7;  // CUBLAS_STATUS_INVALID_VALUE

struct Description {
  int32_t transpose_a = CublasLt::kNotTransposed, transpose_b = CublasLt::kNotTransposed;
  uint32_t epilogue = CublasLt::kEpilogueNone;
  const void* bias = nullptr;
};
// By columns: element (r, c) lies at r + c * stride.
struct Layout {
  int type;
  int64_t rows, columns, stride;
};
struct Preference {
  uint64_t workspace_bytes = 0;
};

template <class T, class Tag>
T& Of(Tag* handle) {
  return *reinterpret_cast<T*>(handle);
}

template <class T, class Tag>
CublasLt::Status Make(Tag** handle, T value) {
  *handle = reinterpret_cast<Tag*>(new T(value));
  ++TheCublasLtCalls().alive;
  return CublasLt::kSuccess;
}

template <class T, class Tag>
CublasLt::Status Drop(Tag* handle) {
  delete reinterpret_cast<T*>(handle);
  --TheCublasLtCalls().alive;
  return CublasLt::kSuccess;
}

DType DTypeOf(int type) {
  return type == CublasLt::kBf16 ? DType::kBf16 : type == CublasLt::kF16 ? DType::kF16 : DType::kF32;
}

std::vector<float> ReadColumn(const void* matrix, const Layout& layout, int64_t column) {
  const DType dtype = DTypeOf(layout.type);
  const size_t bytes = tensor::Bytes(dtype);
  const auto* from =
      static_cast<const std::byte*>(matrix) + static_cast<size_t>(column * layout.stride) * bytes;
  std::vector<float> values(static_cast<size_t>(layout.rows));
  tensor::TensorView(dtype, {layout.rows}, {from, values.size() * bytes}).ReadFloats(0, values);
  return values;
}

void WriteColumn(const std::vector<float>& values, void* matrix, const Layout& layout, int64_t column) {
  const DType dtype = DTypeOf(layout.type);
  const size_t bytes = tensor::Bytes(dtype);
  auto* to = static_cast<std::byte*>(matrix) + static_cast<size_t>(column * layout.stride) * bytes;
  tensor::StoreFloats(values, dtype, {to, values.size() * bytes});
}

bool Fits(const Description& d, const Layout& a, const Layout& b, const Layout& out) {
  return d.transpose_a == CublasLt::kTransposed && d.transpose_b == CublasLt::kNotTransposed &&
         a.type == b.type && (out.type == a.type || out.type == CublasLt::kF32) && a.rows == b.rows &&
         a.columns == out.rows && b.columns == out.columns && a.stride >= a.rows && b.stride >= b.rows &&
         out.stride >= out.rows && (d.epilogue == CublasLt::kEpilogueBias) == (d.bias != nullptr);
}

CublasLt::Status Set(CublasLt::Description handle, int attribute, const void* value, size_t bytes) {
  auto& description = Of<Description>(handle);
  const auto take = [&](auto& member) {
    if (bytes != sizeof(member)) return kInvalid;
    std::memcpy(&member, value, bytes);
    return CublasLt::kSuccess;
  };
  switch (attribute) {
    case CublasLt::kTransposeA:
      return take(description.transpose_a);
    case CublasLt::kTransposeB:
      return take(description.transpose_b);
    case CublasLt::kEpilogue:
      return take(description.epilogue);
    case CublasLt::kBiasPointer:
      return take(description.bias);
    default:
      return kInvalid;
  }
}

CublasLt::Status GetHeuristic(CublasLt::Handle, CublasLt::Description description, CublasLt::Layout a,
                              CublasLt::Layout b, CublasLt::Layout c, CublasLt::Layout d,
                              CublasLt::Preference preference, int wanted, CublasLt::Heuristic* results,
                              int* found) {
  ++TheCublasLtCalls().heuristics;
  *found = 0;
  if (wanted < 1 || c != d || Of<Preference>(preference).workspace_bytes == 0) return kInvalid;
  if (!Fits(Of<Description>(description), Of<Layout>(a), Of<Layout>(b), Of<Layout>(d)))
    return CublasLt::kNotSupported;
  results[0] = {.algorithm = {{42}}, .status = CublasLt::kSuccess};
  *found = 1;
  return CublasLt::kSuccess;
}

CublasLt::Status Matmul(CublasLt::Handle, CublasLt::Description handle, const void* alpha, const void* a,
                        CublasLt::Layout a_layout, const void* b, CublasLt::Layout b_layout, const void* beta,
                        const void* c, CublasLt::Layout, void* d, CublasLt::Layout d_layout,
                        const CublasLt::Algorithm* algorithm, void* workspace, size_t, void* stream) {
  ++TheCublasLtCalls().products;
  const auto& description = Of<Description>(handle);
  const auto &factor = Of<Layout>(a_layout), &x = Of<Layout>(b_layout), &out = Of<Layout>(d_layout);
  const bool plain =
      *static_cast<const float*>(alpha) == 1 && *static_cast<const float*>(beta) == 0 && c == d;
  if (!plain || algorithm->data[0] != 42 || workspace == nullptr || stream == nullptr) return kInvalid;
  if (!Fits(description, factor, x, out)) return kInvalid;
  std::vector<float> bias(static_cast<size_t>(out.rows), 0.0f);
  if (description.bias != nullptr) bias = ReadColumn(description.bias, {out.type, out.rows, 1, out.rows}, 0);
  std::vector<std::vector<float>> xs, sums(static_cast<size_t>(out.columns), bias);
  for (int64_t column = 0; column < out.columns; ++column) xs.push_back(ReadColumn(b, x, column));
  for (int64_t row = 0; row < out.rows; ++row) {
    const std::vector<float> weights = ReadColumn(a, factor, row);
    for (size_t column = 0; column < xs.size(); ++column) {
      float sum = 0;
      for (size_t i = 0; i < weights.size(); ++i) sum += weights[i] * xs[column][i];
      sums[column][static_cast<size_t>(row)] += sum;
    }
  }
  for (int64_t column = 0; column < out.columns; ++column)
    WriteColumn(sums[static_cast<size_t>(column)], d, out, column);
  return CublasLt::kSuccess;
}

CublasLt MakeTable() {
  CublasLt table{};
  table.GetVersion = [] { return size_t{130000}; };
  table.GetStatusString = [](CublasLt::Status) { return "HOST_CUBLASLT"; };
  table.Create = [](CublasLt::Handle* handle) { return Make(handle, 0); };
  table.Destroy = [](CublasLt::Handle handle) { return Drop<int>(handle); };
  table.DescriptionCreate = [](CublasLt::Description* description, int compute_type, int scale_type) {
    if (compute_type != CublasLt::kCompute32F || scale_type != CublasLt::kF32) return kInvalid;
    return Make(description, Description{});
  };
  table.DescriptionDestroy = [](CublasLt::Description description) { return Drop<Description>(description); };
  table.DescriptionSet = Set;
  table.LayoutCreate = [](CublasLt::Layout* layout, int type, uint64_t rows, uint64_t columns,
                          int64_t stride) {
    return Make(layout, Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), stride});
  };
  table.LayoutDestroy = [](CublasLt::Layout layout) { return Drop<Layout>(layout); };
  table.PreferenceCreate = [](CublasLt::Preference* preference) { return Make(preference, Preference{}); };
  table.PreferenceDestroy = [](CublasLt::Preference preference) { return Drop<Preference>(preference); };
  table.PreferenceSet = [](CublasLt::Preference preference, int attribute, const void* value, size_t bytes) {
    if (attribute != CublasLt::kMostWorkspaceBytes || bytes != sizeof(uint64_t)) return kInvalid;
    std::memcpy(&Of<Preference>(preference).workspace_bytes, value, bytes);
    return CublasLt::kSuccess;
  };
  table.GetHeuristic = GetHeuristic;
  table.Matmul = Matmul;
  return table;
}

}  // namespace

const eager::CublasLt& HostCublasLt() {
  static const eager::CublasLt table = MakeTable();
  return table;
}

HostCublasLtCalls& TheCublasLtCalls() {
  static HostCublasLtCalls calls;
  return calls;
}

}  // namespace preheat::testing
