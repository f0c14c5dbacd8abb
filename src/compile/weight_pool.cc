#include "compile/weight_pool.h"

#include "base/check.h"
#include "compile/plausible.h"

namespace preheat::compile {

void WeightPool::Reset(size_t bytes_needed) {
  used_ = 0;
  if (bytes_needed <= buffer_.size()) return;
  buffer_ = device_.Allocate(bytes_needed);
  FillPlausibly(device_, buffer_);
}

void* WeightPool::Take(size_t bytes) {
  CHECK(bytes <= buffer_.size());
  if (used_ + bytes > buffer_.size()) used_ = 0;
  void* taken = buffer_.data() + used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return taken;
}

}  // namespace preheat::compile
