// Parse: a line is a statement; a cursor walks it. See printer.h for the form.
#include <algorithm>
#include <charconv>
#include <limits>
#include <map>

#include "base/error.h"
#include "ir/printer.h"
#include "ir/verify.h"

namespace preheat::ir {
namespace {

using base::ErrorKind;
using base::MakeError;

bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Cursor {
 public:
  Cursor(std::string_view line, int number, std::string_view source)
      : rest_(line), number_(number), source_(source) {}

  [[noreturn]] void Fail(std::string_view what) const {
    throw MakeError(ErrorKind::kCorrupt, "{}:{}: {}, at \"{}\"; correct the graph's text", source_, number_,
                    what, rest_.substr(0, 40));
  }
  bool AtEnd() {
    SkipBlanks();
    return rest_.empty();
  }
  bool Take(std::string_view token) {
    SkipBlanks();
    if (!rest_.starts_with(token)) return false;
    // A word must end where the token does.
    if (IsWordChar(token.back()) && rest_.size() > token.size() && IsWordChar(rest_[token.size()]))
      return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  void Expect(std::string_view token) {
    if (!Take(token)) Fail(fmt::format("expected '{}'", token));
  }
  std::string_view Word() {
    SkipBlanks();
    size_t size = 0;
    while (size < rest_.size() && IsWordChar(rest_[size])) ++size;
    if (size == 0) Fail("expected a word");
    const std::string_view word = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return word;
  }
  template <typename T>
  T Number() {
    SkipBlanks();
    T value{};
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (error != std::errc()) Fail("expected a number");
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }
  NodeId Id() {
    Expect("%");
    const NodeId id = Number<NodeId>();
    if (id < 0) Fail("expected a node");
    return id;
  }
  std::string Text() {
    Expect("\"");
    std::string text;
    while (!rest_.empty() && rest_[0] != '"') text += Character();
    if (rest_.empty()) Fail("expected '\"'");
    rest_.remove_prefix(1);
    return text;
  }
  Attribute Value() {
    SkipBlanks();
    if (!rest_.empty() && rest_[0] == '"') return Text();
    // "inf" and "nan" are real too, for the verifier to refuse.
    const std::string_view number = rest_.substr(0, rest_.find_first_of(" ,}"));
    if (number.find_first_of(".en") != std::string_view::npos) return Number<double>();
    return Number<int64_t>();
  }

 private:
  void SkipBlanks() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\t' || rest_[0] == '\r'))
      rest_.remove_prefix(1);
    if (!rest_.empty() && rest_[0] == ';') rest_ = {};
  }
  char Character() {
    const char c = rest_[0];
    rest_.remove_prefix(1);
    if (c != '\\') return c;
    if (rest_.empty()) Fail("expected a character");
    const char escaped = rest_[0];
    rest_.remove_prefix(1);
    if (escaped == 'n') return '\n';
    if (escaped == 't') return '\t';
    if (escaped == '"' || escaped == '\\') return escaped;
    unsigned value = 0;
    if (escaped != 'x' || rest_.size() < 2 ||
        std::from_chars(rest_.data(), rest_.data() + 2, value, 16).ptr != rest_.data() + 2) {
      Fail("expected an escape");
    }
    rest_.remove_prefix(2);
    return static_cast<char>(value);
  }

  std::string_view rest_;
  int number_;
  std::string_view source_;
};

Op ParseOp(Cursor& line) {
  const std::string_view word = line.Word();
#define OP(name, text, min_inputs, max_inputs) \
  if (word == (text)) return Op::k##name;
#include "ir/ops.def"
#undef OP
  line.Fail(fmt::format("unknown operation {}", word));
}

Dim ParseDim(Cursor& line) {
  if (line.Take("n")) return Dim::Rows();
  if (line.Take("splits")) return Dim::Splits();
  if (line.Take("past")) return line.Take("+n") ? Dim::Positions() : Dim::Past();
  return Dim::Of(line.Number<int64_t>());
}

Type ParseType(Cursor& line) {
  const std::string_view word = line.Word();
  const auto dtype = tensor::ParseDType(word);
  if (!dtype || tensor::ShortName(*dtype) != word) line.Fail(fmt::format("unknown type {}", word));
  Type type{*dtype, {}};
  line.Expect("[");
  if (line.Take("]")) return type;
  do {
    type.shape.push_back(ParseDim(line));
  } while (line.Take(","));
  line.Expect("]");
  return type;
}

Node ParseNode(Cursor& line) {
  line.Expect("=");
  Node node{ParseOp(line), {}, {}, {}};
  if (line.Take("(")) {
    do {
      node.inputs.push_back(line.Id());
    } while (line.Take(","));
    line.Expect(")");
  }
  if (line.Take("{")) {
    do {
      std::string name(line.Word());
      line.Expect("=");
      if (!node.attributes.emplace(std::move(name), line.Value()).second) line.Fail("attribute given twice");
    } while (line.Take(","));
    line.Expect("}");
  }
  line.Expect(":");
  node.type = ParseType(line);
  return node;
}

class Parser {
 public:
  void Line(Cursor& line) {
    if (line.AtEnd()) return;
    if (line.Take("graph")) {
      graph_.name = line.Text();
    } else if (line.Take("rotary")) {
      line.Expect("scale");
      graph_.rotary.scale = line.Number<float>();
      line.Expect("inv_freq");
      while (!line.AtEnd()) graph_.rotary.inv_freq.push_back(line.Number<float>());
    } else if (line.Take("block")) {
      Block block{.name = line.Text()};
      if (line.Take("repeat")) {
        block.repeat = line.Number<int64_t>();
        if (line.Take("from")) block.first = line.Number<int64_t>();
        line.Expect("carry");
        block.carried = line.Id();
      }
      graph_.blocks.push_back(std::move(block));
    } else if (line.Take("yield")) {
      if (graph_.blocks.empty()) line.Fail("a yield outside of a block");
      graph_.blocks.back().yield = line.Id();
    } else if (line.Take("logits")) {
      graph_.logits = line.Id();
    } else if (line.Take("token")) {
      graph_.token = line.Id();
    } else {
      const NodeId id = line.Id();
      if (graph_.blocks.empty()) line.Fail("a node outside of a block");
      if (!nodes_.emplace(id, ParseNode(line)).second) line.Fail(fmt::format("%{} is defined twice", id));
      graph_.blocks.back().nodes.push_back(id);
    }
    if (!line.AtEnd()) line.Fail("expected the end of the line");
  }

  Graph Finish(std::string_view source) {
    // Numbers are dense, so that they can be indices.
    for (auto& [id, node] : nodes_) {
      if (id != static_cast<NodeId>(graph_.nodes.size())) {
        throw MakeError(ErrorKind::kCorrupt,
                        "{}: there is a %{}, but no %{}; number the nodes from 0 without gaps", source, id,
                        graph_.nodes.size());
      }
      for (NodeId input : node.inputs) {
        if (nodes_.count(input) == 0) {
          throw MakeError(ErrorKind::kCorrupt,
                          "{}: %{} reads %{}, which is not defined; correct the graph's text", source, id,
                          input);
        }
      }
      graph_.nodes.push_back(std::move(node));
    }
    return std::move(graph_);
  }

 private:
  Graph graph_;
  std::map<NodeId, Node> nodes_;
};

}  // namespace

Graph Parse(std::string_view text, std::string_view source) {
  Parser parser;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    Cursor line(text.substr(0, end), number, source);
    parser.Line(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  Graph graph = parser.Finish(source);
  Verify(graph);
  return graph;
}

}  // namespace preheat::ir
