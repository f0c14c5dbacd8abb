// Amounts of memory as messages and reports show them.
#pragma once

#include <cstddef>
#include <string>

namespace preheat::base {

std::string SizeText(size_t bytes);  // "0.5 MB", "8.00 GB"

}  // namespace preheat::base
