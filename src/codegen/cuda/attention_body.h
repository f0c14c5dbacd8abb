// The text of attention row by row; attention.h says what it does.
#pragma once

namespace preheat::codegen::cuda::attention {

extern const char kRowsBody[];

}  // namespace preheat::codegen::cuda::attention
