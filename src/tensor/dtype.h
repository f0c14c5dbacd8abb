// Element types, and the names that files give them.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace preheat::tensor {

enum class DType { kF32, kBf16, kF16, kI32, kI64, kU8, kBool };

// Bytes of one element.
constexpr size_t Bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  return 0;
}

constexpr bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16 || dtype == DType::kF16;
}

// torch's names: "float32", "bfloat16", "float16", "int32", "int64", "uint8", "bool".
std::string_view Name(DType dtype);
// One short word for keys and symbols: "f32", "bf16", "f16", "i32", "i64", "u8", "bool".
std::string_view ShortName(DType dtype);
// safetensors' names: "F32", "BF16", ...
std::string_view SafetensorsName(DType dtype);

// Of config.json and the command line: "bfloat16", "torch.bfloat16", "bf16", "half", "fp16", "float", ...
// nullopt for names that mean no type of ours.
std::optional<DType> ParseDType(std::string_view name);
std::optional<DType> ParseSafetensorsDType(std::string_view name);

}  // namespace preheat::tensor
