// The graph of one model step, step(n, past): what is computed, before and after fusion.
//
// A graph is a list of blocks, run in order: a block either runs once or repeats over layers. A node's
// inputs stand before it, in its own block or in an earlier one that runs once; a repeated block carries one
// value from round to round (Carry: the value that came in, `yield`: the one that goes on), and `yield` seen
// from a later block is the last round's. A block of one round may yield a value of another type. Nodes are
// indices; a graph is a value. What each operation means is said in ops.def. Text form: printer.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/dtype.h"

namespace preheat::ir {

enum class Op {
#define OP(name, text, min_inputs, max_inputs) k##name,
#include "ir/ops.def"
#undef OP
};

struct OpInfo {
  std::string_view text;
  int min_inputs;
  int max_inputs;
};
const OpInfo& Info(Op op);

using NodeId = int;
inline constexpr NodeId kNoNode = -1;

// A size: a number, or symbolic = symbol + constant.
struct Dim {
  enum class Symbol {
    kNone,
    kRows,
    kPast,
    kPositions,
    kSplits
  };  // n, past, past + n, ceil((past + n) / block)
  Symbol symbol = Symbol::kNone;
  int64_t size = 0;  // where symbol is kNone

  static Dim Of(int64_t value) { return {Symbol::kNone, value}; }
  static Dim Rows() { return {Symbol::kRows, 0}; }
  static Dim Past() { return {Symbol::kPast, 0}; }
  static Dim Positions() { return {Symbol::kPositions, 0}; }
  static Dim Splits() { return {Symbol::kSplits, 0}; }
  bool operator==(const Dim&) const = default;
};

struct Type {
  tensor::DType dtype = tensor::DType::kF32;
  std::vector<Dim> shape;
  bool operator==(const Type&) const = default;
};

using Attribute = std::variant<int64_t, double, std::string>;

struct Node {
  Op op;
  std::vector<NodeId> inputs;
  std::map<std::string, Attribute> attributes;
  Type type;

  int64_t Int(std::string_view name) const;              // REQUIRES: the attribute is there and of that kind
  double Real(std::string_view name) const;              // REQUIRES: likewise
  const std::string& Text(std::string_view name) const;  // REQUIRES: likewise
  bool Has(std::string_view name) const;
  bool operator==(const Node&) const = default;
};

struct Block {
  std::string name;
  int64_t repeat = 1;
  int64_t first = 0;            // repeat blocks: the layer of the first round
  NodeId carried = kNoNode;     // repeat blocks: the node of an earlier block that the first round's Carry is
  std::vector<NodeId> nodes{};  // in order of execution
  NodeId yield = kNoNode;       // repeat blocks: the value of the next round's Carry, and the block's result

  // A one-layer model has a repeat block of one round, so `repeat` does not tell.
  bool repeats() const { return yield != kNoNode; }
  bool operator==(const Block&) const = default;
};

struct Rotary {
  std::vector<float> inv_freq;
  float scale = 1;
  bool operator==(const Rotary&) const = default;
};

struct Graph {
  std::string name;
  Rotary rotary;
  std::vector<Node> nodes;
  std::vector<Block> blocks;
  NodeId logits = kNoNode;  // f32 [1 or n, vocab]
  NodeId token = kNoNode;   // i32 [1]; kNoNode where the graph ends in logits

  const Node& operator[](NodeId id) const { return nodes[static_cast<size_t>(id)]; }
  Node& operator[](NodeId id) { return nodes[static_cast<size_t>(id)]; }
  // Adds a node to the last block and returns it.
  NodeId Add(Node node);
  bool operator==(const Graph&) const = default;
};

// The blocks' nodes that read `id`, in order; a block's yield and the graph's results are not among them.
std::vector<NodeId> Users(const Graph& graph, NodeId id);
// True where a yield, a `carried`, or the graph's logits or token is `id`.
bool IsResult(const Graph& graph, NodeId id);
// Removes nodes that nothing needs (Append and Probe are needed for what they leave behind) and blocks that
// ran once and are empty now; renumbers the rest in order of execution.
Graph Compact(const Graph& graph);

}  // namespace preheat::ir
