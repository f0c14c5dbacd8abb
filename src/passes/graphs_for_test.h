// Graphs for tests of passes: layers written by hand, and what a pass must not change about them.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/interpreter.h"
#include "ir/printer.h"
#include "ir/random_weights.h"
#include "ir/verify.h"

namespace preheat::passes {

using ir::Graph;
using ir::Op;

// A layer's weights: n norm, a and b [6, 4], c [4, 6], with biases; q [4, 4], k and v [2, 4].
inline constexpr char kHead[] = R"(graph "test"
rotary scale 1 inv_freq 1
block "embed"
  %0 = ids : i32[n]
  %1 = weight {name = "table"} : bf16[5, 4]
  %2 = embedding(%0, %1) : f32[n, 4]
block "layers" repeat 2 carry %2
  %3 = carry : f32[n, 4]
  %4 = weight {name = "{}.n"} : bf16[4]
  %5 = weight {name = "{}.a"} : bf16[6, 4]
  %6 = weight {name = "{}.b"} : bf16[6, 4]
  %7 = weight {name = "{}.c"} : bf16[4, 6]
  %8 = weight {name = "{}.a.bias"} : bf16[6]
  %9 = weight {name = "{}.b.bias"} : bf16[6]
)";
inline constexpr char kTail[] = R"(block "head"
  %90 = linear(%50, %1) : f32[n, 5]
logits %90
)";

// The graph whose layer is `body`, which yields %50. Numbers may have gaps: they are closed here.
inline Graph Layer(const std::string& body) {
  const std::string text = std::string(kHead) + body + "  yield %50\n" + kTail;
  std::vector<std::string> numbers;
  for (size_t at = text.find('%'); at != std::string::npos; at = text.find('%', at + 1)) {
    const std::string id = text.substr(at + 1, text.find_first_not_of("0123456789", at + 1) - at - 1);
    if (std::find(numbers.begin(), numbers.end(), id) == numbers.end()) numbers.push_back(id);
  }
  std::sort(numbers.begin(), numbers.end(), [](auto& a, auto& b) { return std::stoi(a) < std::stoi(b); });
  std::string dense;
  for (size_t at = 0; at < text.size(); ++at) {
    dense += text[at];
    if (text[at] != '%') continue;
    const size_t end = text.find_first_not_of("0123456789", at + 1);
    const auto found = std::find(numbers.begin(), numbers.end(), text.substr(at + 1, end - at - 1));
    dense += std::to_string(found - numbers.begin());
    at = end - 1;
  }
  return ir::Parse(dense, "test");
}

// One operation of a graph's text, by its name.
inline std::string LineOf(const Graph& graph, std::string_view op) {
  const std::string text = ir::Print(graph);
  const size_t at = text.find(fmt::format("= {}", op));
  if (at == std::string::npos) return "";
  return text.substr(at + 2, text.find('\n', at) - at - 2);
}

inline int Count(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [op](auto& n) { return n.op == op; }));
}

// Three prompts' and a decode step's logits, to be equal bit for bit.
inline std::vector<float> Meaning(const Graph& graph) {
  ir::RandomWeights weights(graph, 1);
  ir::KvState cache;
  std::vector<float> logits;
  const bool decode = graph[0].type.shape[0] == ir::Dim::Of(1);
  const std::vector<std::vector<int32_t>> steps = decode
                                                      ? std::vector<std::vector<int32_t>>{{1}, {2}, {3}, {4}}
                                                      : std::vector<std::vector<int32_t>>{{1, 2, 3}, {4}};
  for (const auto& ids : steps) {
    const auto step = ir::Interpret(graph, weights.Provider(), ids, cache);
    logits.insert(logits.end(), step.logits.begin(), step.logits.end());
  }
  return logits;
}

// `pass` keeps the meaning and leaves `matmuls` products.
inline Graph Checked(const Graph& before, const std::function<Graph(const Graph&)>& pass) {
  Graph after = pass(before);
  ir::Verify(after);
  EXPECT_EQ(Meaning(before), Meaning(after));
  EXPECT_EQ(pass(after), after) << "a pass has nothing left to do after itself";
  return after;
}

// Attention with products of %3; `extra` may add readers of what lies between, and must define %50 from %30.
inline std::string SelfAttention(const std::string& extra, const std::string& v_input = "%3") {
  return R"(
  %10 = weight {name = "{}.q"} : bf16[4, 4]
  %11 = weight {name = "{}.k"} : bf16[2, 4]
  %12 = weight {name = "{}.v"} : bf16[2, 4]
  %20 = linear(%3, %10) : f32[n, 4]
  %21 = rotary(%20) {head_dim = 2} : f32[n, 4]
  %22 = linear(%3, %11) : f32[n, 2]
  %23 = rotary(%22) {head_dim = 2} : f32[n, 2]
  %24 = linear()" +
         v_input + R"(, %12) : f32[n, 2]
  %25 = kv_cache : f32[2, past, 1, 2]
  %26 = append(%25, %23, %24) : f32[2, past+n, 1, 2]
  %30 = attention(%21, %26) {head_dim = 2, heads = 2, kv_heads = 1, scale = 0.7} : f32[n, 4]
)" + extra;
}
inline constexpr char kProject[] = "  %50 = linear(%30, %10) : f32[n, 4]\n";

}  // namespace preheat::passes
