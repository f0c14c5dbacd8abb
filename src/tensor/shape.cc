#include "tensor/shape.h"

#include <fmt/format.h>

#include "base/check.h"

namespace preheat::tensor {

int64_t Shape::Elements() const {
  int64_t elements = 1;
  for (const int64_t extent : extents_) {
    CHECK(extent >= 0 && !__builtin_mul_overflow(elements, extent, &elements));
  }
  return elements;
}

std::string Shape::ToString() const {
  return fmt::format("[{}]", fmt::join(extents_, ", "));
}

}  // namespace preheat::tensor
