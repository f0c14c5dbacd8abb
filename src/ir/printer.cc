#include "ir/printer.h"

#include <fmt/format.h>

namespace preheat::ir {
namespace {

std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

// The shortest text that reads back as the same double, never one that reads as an integer.
std::string RealText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string ToText(const Dim& dim) {
  switch (dim.symbol) {
    case Dim::Symbol::kNone:
      return fmt::format("{}", dim.size);
    case Dim::Symbol::kRows:
      return "n";
    case Dim::Symbol::kPast:
      return "past";
    case Dim::Symbol::kPositions:
      return "past+n";
    case Dim::Symbol::kSplits:
      return "splits";
  }
  return "";
}

std::string ToText(const Attribute& attribute) {
  if (const auto* integer = std::get_if<int64_t>(&attribute)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&attribute)) return RealText(*real);
  return Quoted(std::get<std::string>(attribute));
}

std::string NodeLine(const Graph& graph, NodeId id) {
  const Node& node = graph[id];
  std::string line = fmt::format("  %{} = {}", id, Info(node.op).text);
  if (!node.inputs.empty()) {
    line += "(";
    for (size_t i = 0; i < node.inputs.size(); ++i)
      line += fmt::format("{}%{}", i ? ", " : "", node.inputs[i]);
    line += ")";
  }
  if (!node.attributes.empty()) {
    line += " {";
    const char* separator = "";
    for (const auto& [name, value] : node.attributes) {
      line += fmt::format("{}{} = {}", separator, name, ToText(value));
      separator = ", ";
    }
    line += "}";
  }
  return line + " : " + ToText(node.type) + "\n";
}

}  // namespace

std::string ToText(const Type& type) {
  std::string text = std::string(tensor::ShortName(type.dtype)) + "[";
  for (size_t i = 0; i < type.shape.size(); ++i) text += (i ? ", " : "") + ToText(type.shape[i]);
  return text + "]";
}

std::string Print(const Graph& graph) {
  std::string text = "graph " + Quoted(graph.name) + "\n";
  text += fmt::format("rotary scale {} inv_freq", graph.rotary.scale);
  for (float value : graph.rotary.inv_freq) text += fmt::format(" {}", value);
  text += "\n";
  for (const Block& block : graph.blocks) {
    text += "block " + Quoted(block.name);
    if (block.repeats()) {
      text += fmt::format(" repeat {}", block.repeat);
      if (block.first != 0) text += fmt::format(" from {}", block.first);
      text += fmt::format(" carry %{}", block.carried);
    }
    text += "\n";
    for (NodeId id : block.nodes) text += NodeLine(graph, id);
    if (block.repeats()) text += fmt::format("  yield %{}\n", block.yield);
  }
  text += fmt::format("logits %{}\n", graph.logits);
  if (graph.token != kNoNode) text += fmt::format("token %{}\n", graph.token);
  return text;
}

}  // namespace preheat::ir
