#include "ir/graph.h"

#include <algorithm>

#include "base/check.h"

namespace preheat::ir {
namespace {

// What a step leaves behind besides its results: rows of the KV cache, and what the host is shown.
bool HasEffect(const Node& node) {
  if (node.op == Op::kAppend || node.op == Op::kProbe) return true;
  if (node.op != Op::kMatmul || !node.Has("epilogue")) return false;
  const auto* epilogue = std::get_if<std::string>(&node.attributes.at("epilogue"));
  return epilogue != nullptr && *epilogue == "rotary_append";
}

template <typename T>
const T& Get(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(std::string(name));
  CHECK(found != node.attributes.end());
  const T* value = std::get_if<T>(&found->second);
  CHECK(value != nullptr);
  return *value;
}

}  // namespace

const OpInfo& Info(Op op) {
  static const OpInfo kInfo[] = {
#define OP(name, text, min_inputs, max_inputs) {text, min_inputs, max_inputs},
#include "ir/ops.def"
#undef OP
  };
  return kInfo[static_cast<size_t>(op)];
}

int64_t Node::Int(std::string_view name) const {
  return Get<int64_t>(*this, name);
}
double Node::Real(std::string_view name) const {
  return Get<double>(*this, name);
}
const std::string& Node::Text(std::string_view name) const {
  return Get<std::string>(*this, name);
}
bool Node::Has(std::string_view name) const {
  return attributes.count(std::string(name)) != 0;
}

NodeId Graph::Add(Node node) {
  CHECK(!blocks.empty());
  const NodeId id = static_cast<NodeId>(nodes.size());
  nodes.push_back(std::move(node));
  blocks.back().nodes.push_back(id);
  return id;
}

std::vector<NodeId> Users(const Graph& graph, NodeId id) {
  std::vector<NodeId> users;
  for (const Block& block : graph.blocks) {
    for (NodeId user : block.nodes) {
      const auto& inputs = graph[user].inputs;
      if (std::find(inputs.begin(), inputs.end(), id) != inputs.end()) users.push_back(user);
    }
  }
  return users;
}

bool IsResult(const Graph& graph, NodeId id) {
  if (id == kNoNode) return false;
  if (id == graph.logits || id == graph.token) return true;
  return std::any_of(graph.blocks.begin(), graph.blocks.end(),
                     [id](const Block& block) { return block.yield == id || block.carried == id; });
}

Graph Compact(const Graph& graph) {
  // Everything that is needed, from the results backwards.
  std::vector<bool> needed(graph.nodes.size(), false);
  std::vector<NodeId> open;
  const auto need = [&](NodeId id) {
    if (id == kNoNode || needed[static_cast<size_t>(id)]) return;
    needed[static_cast<size_t>(id)] = true;
    open.push_back(id);
  };
  need(graph.logits);
  need(graph.token);
  for (const Block& block : graph.blocks) {
    need(block.carried);
    need(block.yield);
    for (NodeId id : block.nodes) {
      if (HasEffect(graph[id])) need(id);
    }
  }
  while (!open.empty()) {
    const NodeId id = open.back();
    open.pop_back();
    for (NodeId input : graph[id].inputs) need(input);
  }

  // New numbers in order of execution.
  Graph result;
  result.name = graph.name;
  result.rotary = graph.rotary;
  std::vector<NodeId> renumbered(graph.nodes.size(), kNoNode);
  for (const Block& block : graph.blocks) {
    Block kept = block;
    kept.nodes.clear();
    for (NodeId id : block.nodes) {
      if (!needed[static_cast<size_t>(id)]) continue;
      renumbered[static_cast<size_t>(id)] = static_cast<NodeId>(result.nodes.size());
      kept.nodes.push_back(static_cast<NodeId>(result.nodes.size()));
      result.nodes.push_back(graph[id]);
    }
    if (!kept.nodes.empty() || kept.repeats()) result.blocks.push_back(std::move(kept));
  }
  const auto renumber = [&](NodeId& id) {
    if (id != kNoNode) id = renumbered[static_cast<size_t>(id)];
  };
  for (Node& node : result.nodes) {
    for (NodeId& input : node.inputs) renumber(input);
  }
  for (Block& block : result.blocks) {
    renumber(block.carried);
    renumber(block.yield);
  }
  result.logits = graph.logits;
  result.token = graph.token;
  renumber(result.logits);
  renumber(result.token);
  return result;
}

}  // namespace preheat::ir
