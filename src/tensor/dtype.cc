#include "tensor/dtype.h"

#include <array>

namespace preheat::tensor {
namespace {

struct Names {
  DType dtype;
  std::string_view torch, brief, safetensors;
};

constexpr std::array kNames = {
    Names{DType::kF32, "float32", "f32", "F32"}, Names{DType::kBf16, "bfloat16", "bf16", "BF16"},
    Names{DType::kF16, "float16", "f16", "F16"}, Names{DType::kI32, "int32", "i32", "I32"},
    Names{DType::kI64, "int64", "i64", "I64"},   Names{DType::kU8, "uint8", "u8", "U8"},
    Names{DType::kBool, "bool", "bool", "BOOL"},
};

// The table stands in the order of the enumerators.
constexpr bool InOrder() {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (static_cast<size_t>(kNames[i].dtype) != i) return false;
  }
  return true;
}
static_assert(InOrder());

const Names& NamesOf(DType dtype) {
  return kNames[static_cast<size_t>(dtype)];
}

}  // namespace

std::string_view Name(DType dtype) {
  return NamesOf(dtype).torch;
}
std::string_view ShortName(DType dtype) {
  return NamesOf(dtype).brief;
}
std::string_view SafetensorsName(DType dtype) {
  return NamesOf(dtype).safetensors;
}

std::optional<DType> ParseDType(std::string_view name) {
  if (name.starts_with("torch.")) name.remove_prefix(6);
  if (name == "fp32" || name == "float") return DType::kF32;
  if (name == "fp16" || name == "half") return DType::kF16;
  for (const Names& names : kNames) {
    if (name == names.torch || name == names.brief) return names.dtype;
  }
  return std::nullopt;
}

std::optional<DType> ParseSafetensorsDType(std::string_view name) {
  for (const Names& names : kNames) {
    if (name == names.safetensors) return names.dtype;
  }
  return std::nullopt;
}

}  // namespace preheat::tensor
