// One graph operation as a launch of one module kernel, before anything is known about where values lie.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "program/program.h"

namespace preheat::eager {

struct OperationOperand {
  program::Operand::Kind kind = program::Operand::Kind::kBuffer;
  ir::NodeId node = ir::kNoNode;  // kBuffer: the value's producer; kWeight: the Weight; caches: the KvCache
  program::Operand::Access access = program::Operand::Access::kRead;
};

struct Operation {
  std::string entry;
  std::vector<OperationOperand> operands;  // in the order of kernel_table.h
  std::vector<int64_t> numbers;            // the kernel's own
};

// nullopt where no kernel does it. REQUIRES: the node runs (it is not Ids, Weight, KvCache, Carry).
std::optional<Operation> OperationOf(const ir::Graph& graph, ir::NodeId id);

// True for Ids, Weight, KvCache and Carry: they name what is there and run nothing.
bool IsSource(ir::Op op);

}  // namespace preheat::eager
