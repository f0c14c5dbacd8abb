#include "eager/module/weights.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#include "eager/module/parallel.h"

namespace preheat::eager {
namespace {

using dnnl::memory;

constexpr size_t kHugePage = size_t{2} << 20;
// Rows for which oneDNN is asked its preferred layout of the weights. It answers the same for 1 and for 512.
constexpr int64_t kAskedRows = 512;

memory::data_type TypeOf(tensor::DType dtype) {
  return dtype == tensor::DType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// The layout that oneDNN chooses for weight^T where it may choose.
memory::desc PreferredLayout(int64_t in, int64_t out, memory::data_type type) {
  const memory::desc x({kAskedRows, in}, type, memory::format_tag::ab);
  const memory::desc any({in, out}, type, memory::format_tag::any);
  const memory::desc y({kAskedRows, out}, type, memory::format_tag::ab);
  return dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, any, y), Engine()).weights_desc();
}

// True where `wanted` is oneDNN's layout of bf16 weights for AVX512-BF16, 16a64b2a without padding.
bool IsPairs(const memory::desc& wanted, int64_t in, int64_t out) {
  if (in % 32 != 0 || out % 64 != 0 || wanted.data_type() != memory::data_type::bf16) return false;
  return wanted == memory::desc({in, out}, memory::data_type::bf16, memory::format_tag::BA16a64b2a);
}

// What oneDNN's reorder does, with each thread reading and writing whole rows of blocks: several times as
// fast, which a cold start feels.
void PackPairs(std::byte* out, const Matrix& weight) {
  const int64_t blocks = weight.rows / 64;
  ForItems(blocks, [&](int64_t block, int) {
    const auto* in = reinterpret_cast<const uint16_t*>(weight.At(block * 64));
    const int64_t following = block + TeamSize() < blocks ? block + TeamSize() : block;
    BestLoops().pack_pairs(reinterpret_cast<uint16_t*>(out) + block * 64 * weight.columns, in, weight.stride,
                           weight.columns, reinterpret_cast<const uint16_t*>(weight.At(following * 64)));
  });
}

void WidenTo(float* out, const Matrix& matrix) {
  ForRange(matrix.rows, matrix.columns, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      LoadRow(BestLoops(), out + row * matrix.columns, matrix.At(row), matrix.dtype, matrix.columns);
    }
  });
}

}  // namespace

dnnl::engine& Engine() {
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  static dnnl::stream stream(Engine());
  return stream;
}

Pages::Pages(size_t bytes) : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
  void* data = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  if (bytes >= kHugePage) ::madvise(data, bytes_, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(data);
}

Pages::~Pages() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

const PackedWeights::Packed& PackedWeights::Matrix(const eager::Matrix& weight, memory::data_type type) {
  const Key key{weight.data, weight.rows, weight.columns, weight.dtype, static_cast<int>(type)};
  if (const auto found = matrices_.find(key); found != matrices_.end()) return found->second;

  Pages widened;
  std::byte* source = weight.data;
  if (TypeOf(weight.dtype) != type || weight.dtype == tensor::DType::kF16) {
    widened = Pages(static_cast<size_t>(weight.rows * weight.columns) * sizeof(float));
    WidenTo(reinterpret_cast<float*>(widened.data()), weight);
    source = widened.data();
  }
  const memory::desc stored({weight.columns, weight.rows}, type, memory::format_tag::ba);
  const memory::desc wanted = PreferredLayout(weight.columns, weight.rows, type);
  Packed packed{.memory = {}, .pages = Pages(wanted.get_size())};
  packed.memory = memory(wanted, Engine(), packed.pages.data());
  if (IsPairs(wanted, weight.columns, weight.rows)) {
    PackPairs(packed.pages.data(), weight);
  } else {
    memory from(stored, Engine(), source);
    dnnl::reorder(from, packed.memory).execute(Stream(), from, packed.memory);
    Stream().wait();
  }
  bytes_ += static_cast<int64_t>(packed.pages.bytes());
  return matrices_.emplace(key, std::move(packed)).first->second;
}

const float* PackedWeights::Vector(const eager::Matrix& vector) {
  const Key key{vector.data, vector.rows, vector.columns, vector.dtype, -1};
  auto found = matrices_.find(key);
  if (found == matrices_.end()) {
    Packed packed{.memory = {}, .pages = Pages(static_cast<size_t>(vector.columns) * sizeof(float))};
    WidenTo(reinterpret_cast<float*>(packed.pages.data()), vector);
    found = matrices_.emplace(key, std::move(packed)).first;
  }
  return reinterpret_cast<const float*>(found->second.pages.data());
}

void PackedWeights::Clear() {
  matrices_.clear();
  bytes_ = 0;
}

}  // namespace preheat::eager
