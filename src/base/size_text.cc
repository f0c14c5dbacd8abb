#include "base/size_text.h"

#include <fmt/format.h>

namespace preheat::base {

std::string SizeText(size_t bytes) {
  const auto size = static_cast<double>(bytes);
  return size < 1e9 ? fmt::format("{:.1f} MB", size / 1e6) : fmt::format("{:.2f} GB", size / 1e9);
}

}  // namespace preheat::base
