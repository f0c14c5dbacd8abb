// A Matmul node read once: what its generators need to know, checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/cpu_prelude.h"

namespace preheat::codegen::matmul {

enum class Prologue { kNone, kRmsNorm, kMerge };
enum class Epilogue { kStore, kAdd, kSiluMul, kRotaryAppend };

struct Part {
  ir::NodeId weight = ir::kNoNode;
  ir::NodeId bias = ir::kNoNode;
  int64_t columns = 0;  // of the product: the weight's rows
};

struct Spec {
  ir::NodeId node = ir::kNoNode;
  Prologue prologue = Prologue::kNone;
  Epilogue epilogue = Epilogue::kStore;
  std::vector<Part> parts;
  int64_t k = 0;  // the sum's length: the weights' columns

  ir::NodeId x = ir::kNoNode;
  ir::NodeId norm = ir::kNoNode;
  ir::NodeId residual = ir::kNoNode;
  ir::NodeId cache = ir::kNoNode;
  double eps = 0;
  int64_t split_block = 0;  // prologue merge: positions of one split
  int64_t merge_heads = 0;  // and how x is divided
  int64_t merge_head_dim = 0;
  int64_t head_dim = 0;  // epilogue rotary_append

  // Epilogue add, where the result is handed on (codegen::HandOn): the product that normalises it, and its
  // norm's weight.
  ir::NodeId handed_to = ir::kNoNode;
  ir::NodeId gain = ir::kNoNode;
  bool gain_of_next_round = false;

  bool one_row = false;  // x has one row, whatever the step
  bool to_logits = false;
  tensor::DType weight_dtype = tensor::DType::kF32;
  tensor::DType bias_dtype = tensor::DType::kF32;
  tensor::DType math = tensor::DType::kF32;
};

// nullopt where the node is no Matmul that we generate code for (sizes not known, types not floating-point,
// weights of different types).
std::optional<Spec> ReadSpec(const ir::Graph& graph, ir::NodeId node);

// How many columns are finished together: 2 where the epilogue combines pairs (gate and up; d and d + half).
int Lists(const Spec& spec);

// The operands of a region's launches in one order, and the constants by which bodies name them.
class OperandList {
 public:
  // Adds an operand; its number becomes the constant `name`. Operands of one array are added one after the
  // other.
  void Add(const std::string& name, const RegionOperand& operand);
  void AddNode(const std::string& name, ir::NodeId node, program::Operand::Access access);
  void AddWorkspace(const std::string& name, int workspace, program::Operand::Access access);
  const std::vector<RegionOperand>& operands() const { return operands_; }
  const std::string& text() const { return text_; }

 private:
  std::vector<RegionOperand> operands_;
  std::string text_;  // "constexpr int kX = 0;\n"...
};

}  // namespace preheat::codegen::matmul
