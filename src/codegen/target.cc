#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "codegen/codegen.h"

namespace preheat::codegen {
namespace {

const std::vector<Target>& Targets() {
  static const std::vector<Target> targets = {
      {.name = "x86-64-v4+avx512bf16", .vector_bytes = 64, .bf16_dot = true},
      {.name = "x86-64-v4", .vector_bytes = 64, .bf16_dot = false},
      {.name = "x86-64-v3", .vector_bytes = 32, .bf16_dot = false},
      {.name = "sm_80", .bf16_dot = true, .sm = 80},
      {.name = "sm_86", .bf16_dot = true, .sm = 86},
      {.name = "sm_89", .bf16_dot = true, .sm = 89},
      {.name = "sm_90a", .bf16_dot = true, .sm = 90},
      {.name = "sm_100", .bf16_dot = true, .sm = 100},
      {.name = "sm_120", .bf16_dot = true, .sm = 120},
      {.name = "compute_80", .bf16_dot = true, .sm = 80, .ptx = true},
      {.name = "compute_90", .bf16_dot = true, .sm = 90, .ptx = true},
      {.name = "compute_100", .bf16_dot = true, .sm = 100, .ptx = true},
      {.name = "compute_120", .bf16_dot = true, .sm = 120, .ptx = true},
  };
  return targets;
}

}  // namespace

std::vector<std::string> TargetNames() {
  std::vector<std::string> names;
  for (const Target& target : Targets()) names.push_back(target.name);
  return names;
}

Target ParseTarget(std::string_view name) {
  for (const Target& target : Targets()) {
    if (target.name == name) return target;
  }
  throw base::MakeError(base::ErrorKind::kInvalidArgument, "unknown target \"{}\": the targets are {}", name,
                        fmt::join(TargetNames(), ", "));
}

}  // namespace preheat::codegen
