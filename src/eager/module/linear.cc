// Linear on oneDNN's matmul. Its blocked layout of the weights ("any") serves prefill and decode alike, so
// there is one packed copy: on a CPU with AVX512-BF16, 16a64b2a at 95% of the read bandwidth for one row and
// 85-92% of peak for 512 (docs/performance.md). inner_product and row-major weights are slower at both ends.
#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "eager/module/kernels.h"
#include "eager/module/weights.h"

namespace preheat::eager {
namespace {

using dnnl::memory;

// Primitives of so many shapes are kept; a prompt length needs about six.
constexpr size_t kKeptPrimitives = 1024;

struct Shape {
  int64_t rows, in, out, x_stride, y_stride;
  memory::data_type type, y_type;
  bool bias;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 sees a 0 in it
  auto operator<=>(const Shape&) const = default;
};

struct Bound {
  dnnl::matmul primitive;
  memory x, y, bias;
};

struct State {
  PackedWeights weights;
  std::map<Shape, Bound> primitives;
};

State& Kept() {
  static State state;
  return state;
}

Bound MakeBound(const Shape& shape, const memory::desc& weights) {
  const memory::desc x({shape.rows, shape.in}, shape.type, memory::dims{shape.x_stride, 1});
  const memory::desc y({shape.rows, shape.out}, shape.y_type, memory::dims{shape.y_stride, 1});
  const memory::desc bias({1, shape.out}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::desc desc =
      shape.bias ? dnnl::matmul::desc(x, weights, bias, y) : dnnl::matmul::desc(x, weights, y);
  return {.primitive = dnnl::matmul(dnnl::matmul::primitive_desc(desc, Engine())),
          .x = memory(x, Engine(), nullptr),
          .y = memory(y, Engine(), nullptr),
          .bias = shape.bias ? memory(bias, Engine(), nullptr) : memory()};
}

// x as the product's type: itself, or rounded or widened into scratch.
Matrix AsFloats(const Matrix& x) {
  Matrix floats = {
      .data = reinterpret_cast<std::byte*>(ScratchFloats(Scratch::kLinearIn, x.rows * x.columns)),
      .dtype = tensor::DType::kF32,
      .rows = x.rows,
      .columns = x.columns,
      .stride = x.columns};
  for (int64_t row = 0; row < x.rows; ++row) {
    LoadRow(BestLoops(), floats.Floats(row), x.At(row), x.dtype, x.columns);
  }
  return floats;
}

}  // namespace

bool MultipliesBf16() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx512_core_bf16:
    case dnnl::cpu_isa::avx512_core_amx:
      return true;
    default:
      return false;  // the library's own list, which grows
  }
}

namespace {

void Multiply(const ph_args& args, bool has_bias) {
  const Matrix out = Operand(args, 0);
  Matrix x = Operand(args, 1);
  const Matrix weight = Operand(args, 2);
  const bool bf16 =
      weight.dtype == tensor::DType::kBf16 && x.dtype == tensor::DType::kBf16 && MultipliesBf16();
  const memory::data_type type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  if (!bf16 && !x.IsFloats()) x = AsFloats(x);

  // oneDNN writes f32, or bf16 where it multiplies bf16; anything else is rounded here.
  Matrix y = out;
  if (!y.IsFloats() && !(bf16 && y.dtype == tensor::DType::kBf16)) {
    y.data = reinterpret_cast<std::byte*>(ScratchFloats(Scratch::kLinearOut, out.rows * out.columns));
    y.dtype = tensor::DType::kF32;
    y.stride = out.columns;
  }
  State& kept = Kept();
  const PackedWeights::Packed& packed = kept.weights.Matrix(weight, type);
  const Shape shape = {.rows = y.rows,
                       .in = weight.columns,
                       .out = weight.rows,
                       .x_stride = x.stride,
                       .y_stride = y.stride,
                       .type = type,
                       .y_type = y.IsFloats() ? memory::data_type::f32 : memory::data_type::bf16,
                       .bias = has_bias};
  auto found = kept.primitives.find(shape);
  if (found == kept.primitives.end()) {
    if (kept.primitives.size() >= kKeptPrimitives) kept.primitives.clear();
    found = kept.primitives.emplace(shape, MakeBound(shape, packed.memory.get_desc())).first;
  }
  Bound& bound = found->second;
  bound.x.set_data_handle(x.data);
  bound.y.set_data_handle(y.data);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, bound.x}, {DNNL_ARG_WEIGHTS, packed.memory}, {DNNL_ARG_DST, bound.y}};
  if (has_bias) {
    bound.bias.set_data_handle(const_cast<float*>(kept.weights.Vector(Operand(args, 3))));
    arguments.emplace(DNNL_ARG_BIAS, bound.bias);
  }
  bound.primitive.execute(Stream(), arguments);
  Stream().wait();
  if (y.data == out.data) return;
  for (int64_t row = 0; row < out.rows; ++row) {
    StoreRow(BestLoops(), out.At(row), out.dtype, y.Floats(row), out.columns);
  }
}

}  // namespace

void Linear(const ph_args& args) {
  Multiply(args, false);
}
void LinearBias(const ph_args& args) {
  Multiply(args, true);
}

int64_t PackedBytes() {
  return Kept().weights.bytes();
}

void ReleaseWeights() {
  Kept().weights.Clear();
  Kept().primitives.clear();
}

}  // namespace preheat::eager
