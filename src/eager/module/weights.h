// Weights in the layouts that oneDNN prefers, made at first use and kept: found again by address, shape and
// type, so they must be released before the checkpoint's memory is used for anything else.
#pragma once

#include <dnnl.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>

#include "eager/module/matrix.h"

namespace preheat::eager {

dnnl::engine& Engine();
dnnl::stream& Stream();

// Memory of its own pages, huge ones where the system gives them: weights are gigabytes, touched once.
class Pages {
 public:
  Pages() = default;
  explicit Pages(size_t bytes);  // throws std::bad_alloc
  ~Pages();
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

class PackedWeights {
 public:
  struct Packed {
    dnnl::memory memory;
    Pages pages;
  };

  // The matrix weight^T of `weight` [out, in] as `type` in oneDNN's choice of layout for many rows, which
  // serves one row as well.
  const Packed& Matrix(const eager::Matrix& weight, dnnl::memory::data_type type);
  // A vector [n] as f32.
  const float* Vector(const eager::Matrix& vector);

  int64_t bytes() const { return bytes_; }
  void Clear();

 private:
  using Key = std::tuple<const void*, int64_t, int64_t, tensor::DType, int>;
  std::map<Key, Packed> matrices_;
  int64_t bytes_ = 0;
};

}  // namespace preheat::eager
