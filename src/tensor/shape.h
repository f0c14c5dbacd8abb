// The extents of a tensor, outermost first; row-major. Rank 0 is a scalar.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace preheat::tensor {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) : extents_(extents) {}
  explicit Shape(std::vector<int64_t> extents) : extents_(std::move(extents)) {}

  int rank() const { return static_cast<int>(extents_.size()); }
  // REQUIRES: 0 <= axis < rank().
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis)]; }
  const std::vector<int64_t>& extents() const { return extents_; }

  // The product of the extents; 1 for a scalar. REQUIRES: it fits in 63 bits.
  int64_t Elements() const;
  // "[2, 3]".
  std::string ToString() const;

  bool operator==(const Shape&) const = default;

 private:
  std::vector<int64_t> extents_;
};

}  // namespace preheat::tensor
