// Each pass on hand-written graphs: what it makes, and what it must leave as it is. That meaning is kept on
// whole random models is tests/graph_property_test.cc's matter.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "ir/interpreter.h"
#include "ir/printer.h"
#include "ir/random_weights.h"
#include "ir/verify.h"
#include "passes/drop_dead.h"
#include "passes/fuse_gate_up.h"
#include "passes/fuse_norm.h"
#include "passes/fuse_qkv.h"
#include "passes/fuse_residual.h"
#include "passes/linear_to_matmul.h"
#include "passes/narrow_activations.h"
#include "passes/pipeline.h"
#include "passes/specialize_decode.h"
#include "passes/split_attention.h"

namespace preheat::passes {
namespace {

using ir::Graph;
using ir::Op;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A layer's weights: n norm, a and b [6, 4], c [4, 6], with biases; q [4, 4], k and v [2, 4].
const char kHead[] = R"(graph "test"
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
const char kTail[] = R"(block "head"
  %90 = linear(%50, %1) : f32[n, 5]
logits %90
)";

// The graph whose layer is `body`, which yields %50. Numbers may have gaps: they are closed here.
Graph Layer(const std::string& body) {
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
std::string LineOf(const Graph& graph, std::string_view op) {
  const std::string text = ir::Print(graph);
  const size_t at = text.find(fmt::format("= {}", op));
  if (at == std::string::npos) return "";
  return text.substr(at + 2, text.find('\n', at) - at - 2);
}

int Count(const Graph& graph, Op op) {
  return static_cast<int>(
      std::count_if(graph.nodes.begin(), graph.nodes.end(), [op](auto& n) { return n.op == op; }));
}

// Three prompts' and a decode step's logits, to be equal bit for bit.
std::vector<float> Meaning(const Graph& graph) {
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
Graph Checked(const Graph& before, const std::function<Graph(const Graph&)>& pass) {
  Graph after = pass(before);
  ir::Verify(after);
  EXPECT_EQ(Meaning(before), Meaning(after));
  EXPECT_EQ(pass(after), after) << "a pass has nothing left to do after itself";
  return after;
}

TEST(LinearToMatmul, KeepsInputsAndBias) {
  const Graph graph = Checked(Layer(R"(
  %20 = linear(%3, %5, %8) : f32[n, 6]
  %50 = linear(%20, %7) : f32[n, 4]
)"),
                              LinearToMatmul);
  EXPECT_EQ(Count(graph, Op::kLinear), 0);
  EXPECT_THAT(LineOf(graph, "matmul(%3"), HasSubstr("bias = 1, epilogue = \"store\""));
}

std::string Mlp(const std::string& gate, const std::string& up, const std::string& mul) {
  return fmt::format(R"(
  %19 = rms_norm(%3, %4) {{eps = 1e-05}} : f32[n, 4]
  %20 = linear({}) : f32[n, 6]
  %21 = silu(%20) : f32[n, 6]
  %22 = linear({}) : f32[n, 6]
  %23 = mul({}) : f32[n, 6]
  %50 = linear(%23, %7) : f32[n, 4]
)",
                     gate, up, mul);
}
Graph FusedMlp(const std::string& body) {
  return Checked(LinearToMatmul(Layer(body)), FuseGateUp);
}

TEST(FuseGateUp, JoinsProductsOfOneInputInEitherOrder) {
  for (const char* mul : {"%21, %22", "%22, %21"}) {
    const Graph graph = FusedMlp(Mlp("%19, %5", "%19, %6", mul));
    EXPECT_EQ(Count(graph, Op::kMatmul), 3);
    EXPECT_EQ(Count(graph, Op::kSilu), 0);
    EXPECT_THAT(ir::Print(graph), HasSubstr("epilogue = \"silu_mul\", math = \"f32\", parts = 2"));
  }
}

TEST(FuseGateUp, KeepsBiasesBehindWeights) {
  const Graph graph = FusedMlp(Mlp("%19, %5, %8", "%19, %6, %9", "%21, %22"));
  EXPECT_EQ(Count(graph, Op::kMatmul), 3);
  EXPECT_THAT(ir::Print(graph), HasSubstr("bias = 1, epilogue = \"silu_mul\""));
}

TEST(FuseGateUp, LeavesWhatDoesNotFit) {
  const char* bodies[] = {"%19, %5, %8|%19, %6|%21, %22", "%19, %5|%3, %6|%21, %22",
                          "%19, %5|%19, %6|%21, %21", "%19, %5|%19, %6|%21, %20"};
  for (const std::string body : bodies) {
    const size_t first = body.find('|'), second = body.rfind('|');
    const Graph graph = FusedMlp(
        Mlp(body.substr(0, first), body.substr(first + 1, second - first - 1), body.substr(second + 1)));
    EXPECT_EQ(Count(graph, Op::kSilu), 1) << body;
  }
  // The gate's product has another reader.
  const Graph shared = FusedMlp(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = silu(%20) : f32[n, 6]
  %22 = linear(%3, %6) : f32[n, 6]
  %23 = mul(%21, %22) : f32[n, 6]
  %24 = add(%23, %20) : f32[n, 6]
  %50 = linear(%24, %7) : f32[n, 4]
)");
  EXPECT_EQ(Count(shared, Op::kSilu), 1);
}

TEST(FuseResidual, TakesTheSumIntoTheProduct) {
  for (const char* add : {"%21, %3", "%3, %21"}) {
    const Graph graph = Checked(LinearToMatmul(Layer(fmt::format(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = linear(%20, %7) : f32[n, 4]
  %50 = add({}) : f32[n, 4]
)",
                                                                 add))),
                                FuseResidual);
    EXPECT_EQ(Count(graph, Op::kAdd), 0);
    EXPECT_THAT(ir::Print(graph), HasSubstr("epilogue = \"add\""));
  }
}

TEST(FuseResidual, LeavesAProductThatIsReadTwiceOrIsItsOwnResidual) {
  const Graph twice = Checked(LinearToMatmul(Layer(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = linear(%20, %7) : f32[n, 4]
  %22 = add(%21, %3) : f32[n, 4]
  %50 = mul(%22, %21) : f32[n, 4]
)")),
                              FuseResidual);
  EXPECT_EQ(Count(twice, Op::kAdd), 1);
  const Graph itself = Checked(LinearToMatmul(Layer(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = linear(%20, %7) : f32[n, 4]
  %50 = add(%21, %21) : f32[n, 4]
)")),
                               FuseResidual);
  EXPECT_EQ(Count(itself, Op::kAdd), 1);
}

TEST(FuseResidual, LeavesTheLastRoundsProductInItsBlock) {
  std::string text = ir::Print(DropDead(LinearToMatmul(Layer(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %50 = linear(%20, %7) : f32[n, 4]
)"))));
  // The head adds what the layers yielded, a product, to the embedding.
  const size_t head = text.find("matmul(%7, %1)");
  ASSERT_NE(head, std::string::npos) << text;
  text.replace(head, text.find(" : f32[n, 5]") - head, "add(%7, %2) : f32[n, 4]\nlogits %8\n; ");
  text.resize(text.find("; "));
  const Graph before = ir::Parse(text, "test");
  EXPECT_EQ(Count(Checked(before, FuseResidual), Op::kAdd), 1);
}

TEST(FuseNorm, MovesIntoTheProduct) {
  const Graph graph = Checked(LinearToMatmul(Layer(R"(
  %20 = rms_norm(%3, %4) {eps = 0.25} : f32[n, 4]
  %21 = linear(%20, %5, %8) : f32[n, 6]
  %50 = linear(%21, %7) : f32[n, 4]
)")),
                              FuseNorm);
  EXPECT_EQ(Count(graph, Op::kRmsNorm), 0);
  EXPECT_THAT(ir::Print(graph),
              HasSubstr("bias = 1, epilogue = \"store\", eps = 0.25, math = \"f32\", parts = 1, "
                        "prologue = \"rms_norm\""));
}

TEST(FuseNorm, LeavesANormWithTwoReadersOrThatIsYieldedOrTheResidual) {
  const char* bodies[] = {R"(
  %20 = rms_norm(%3, %4) {eps = 0.25} : f32[n, 4]
  %21 = linear(%20, %5) : f32[n, 6]
  %22 = linear(%20, %6) : f32[n, 6]
  %23 = add(%21, %22) : f32[n, 6]
  %50 = linear(%23, %7) : f32[n, 4]
)",
                          R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = linear(%20, %7) : f32[n, 4]
  %50 = rms_norm(%21, %4) {eps = 0.25} : f32[n, 4]
)"};
  for (const char* body : bodies) {
    EXPECT_EQ(Count(Checked(LinearToMatmul(Layer(body)), FuseNorm), Op::kRmsNorm), 1) << body;
  }
  const Graph residual = FuseResidual(LinearToMatmul(Layer(R"(
  %10 = weight {name = "{}.q"} : bf16[4, 4]
  %20 = rms_norm(%3, %4) {eps = 0.25} : f32[n, 4]
  %21 = linear(%20, %10) : f32[n, 4]
  %50 = add(%21, %20) : f32[n, 4]
)")));
  EXPECT_EQ(Count(Checked(residual, FuseNorm), Op::kRmsNorm), 1);
}

// Attention with products of %3; `extra` may add readers of what lies between, and must define %50 from %30.
std::string SelfAttention(const std::string& extra, const std::string& v_input = "%3") {
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
const char kProject[] = "  %50 = linear(%30, %10) : f32[n, 4]\n";

TEST(FuseQkv, JoinsProductsRotationAndAppend) {
  const Graph graph = Checked(LinearToMatmul(Layer(SelfAttention(kProject))), FuseQkv);
  EXPECT_EQ(Count(graph, Op::kMatmul), 3);
  EXPECT_EQ(Count(graph, Op::kRotary), 0);
  EXPECT_EQ(Count(graph, Op::kAppend), 0);
  EXPECT_EQ(Count(graph, Op::kAppendedCache), 1);
  EXPECT_THAT(ir::Print(graph),
              HasSubstr("epilogue = \"rotary_append\", head_dim = 2, math = \"f32\", parts = 3"));
}

TEST(FuseQkv, LeavesWhatDoesNotFit) {
  const std::string bodies[] = {
      // k's product, or its rotation, is read by another node too.
      SelfAttention("  %31 = linear(%22, %11) : f32[n, 4]\n  %50 = add(%30, %31) : f32[n, 4]\n"),
      SelfAttention("  %31 = linear(%23, %11) : f32[n, 4]\n  %50 = add(%30, %31) : f32[n, 4]\n"),
      SelfAttention("  %31 = add(%20, %30) : f32[n, 4]\n  %50 = linear(%31, %10) : f32[n, 4]\n"),
      // v reads another input; the first reads the embedding of this round twice.
      SelfAttention(kProject, "%2"),
  };
  for (std::string body : bodies) {
    // [2, 4] as [out, in] fits k; the other way round is a weight of its own.
    for (size_t at; (at = body.find("%22, %11")) != std::string::npos ||
                    (at = body.find("%23, %11")) != std::string::npos;) {
      body.replace(at + 5, 3, "%13");
      body.insert(0, "\n  %13 = weight {name = \"{}.w\"} : bf16[4, 2]");
    }
    EXPECT_EQ(Count(Checked(LinearToMatmul(Layer(body)), FuseQkv), Op::kAppend), 1) << body;
  }
}

TEST(FuseQkv, AQueryWithTwoReadersIsFine) {
  const Graph graph =
      Checked(LinearToMatmul(Layer(SelfAttention("  %50 = add(%30, %21) : f32[n, 4]\n"))), FuseQkv);
  EXPECT_EQ(Count(graph, Op::kAppendedCache), 1);
}

Graph Decode(const std::string& body) {
  return FuseResidual(FuseQkv(LinearToMatmul(SpecializeDecode(Layer(body)))));
}

TEST(SpecializeDecode, OneRowEverywhereAndNoLastRow) {
  Graph before = Layer(SelfAttention(kProject));
  const Graph graph = SpecializeDecode(before);
  ir::Verify(graph);
  EXPECT_THAT(ir::Print(graph), Not(HasSubstr("[n, ")));
  EXPECT_THAT(ir::Print(graph), HasSubstr("past+n"));
  std::string text = ir::Print(before);
  const size_t at = text.find("block \"head\"");
  text.resize(at);
  const auto yield = before.blocks[1].yield;
  text += fmt::format(
      "block \"head\"\n  %{0} = last_row(%{1}) : f32[1, 4]\n  %{2} = linear(%{0}, %1) : f32[1, 5]\nlogits "
      "%{2}\n",
      yield + 1, yield, yield + 2);
  EXPECT_EQ(Count(SpecializeDecode(ir::Parse(text, "test")), Op::kLastRow), 0);
}

TEST(SplitAttention, SplitsForAPlainProduct) {
  const Graph before = Decode(SelfAttention(kProject));
  const Graph graph = SplitAttention(before, 2);
  ir::Verify(graph);
  EXPECT_EQ(Count(graph, Op::kAttention), 0);
  EXPECT_THAT(ir::Print(graph), HasSubstr("prologue = \"merge\""));
  EXPECT_EQ(SplitAttention(graph, 2), graph);
  const auto expected = Meaning(before), found = Meaning(graph);
  ASSERT_EQ(expected.size(), found.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], 1e-4 * (1 + std::fabs(expected[i])));
}

TEST(SplitAttention, LeavesPromptsOtherReadersAndResiduals) {
  const Graph prompt = FuseQkv(LinearToMatmul(Layer(SelfAttention(kProject))));
  EXPECT_EQ(SplitAttention(prompt, 2), prompt);
  for (const char* extra : {"  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = mul(%31, %30) : f32[n, 4]\n",
                            "  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = add(%31, %30) : f32[n, 4]\n",
                            "  %50 = silu(%30) : f32[n, 4]\n"}) {
    const Graph before = Decode(SelfAttention(extra));
    EXPECT_EQ(SplitAttention(before, 2), before) << extra;
  }
}

TEST(NarrowActivations, NarrowsFactorsAndCacheButNotTheResidual) {
  const Graph graph = NarrowActivations(FuseResidual(FuseQkv(LinearToMatmul(
      Layer(SelfAttention("  %31 = linear(%30, %10) : f32[n, 4]\n  %50 = add(%31, %3) : f32[n, 4]\n"))))));
  ir::Verify(graph);
  const std::string text = ir::Print(graph);
  EXPECT_THAT(LineOf(graph, "attention"), HasSubstr(": bf16[n, 4]"));
  EXPECT_THAT(text, HasSubstr("kv_cache : bf16"));
  EXPECT_THAT(text, Not(HasSubstr("math = \"f32\"")));
  EXPECT_EQ(graph[graph.blocks[1].yield].type.dtype, tensor::DType::kF32);
  EXPECT_EQ(graph[graph.logits].type.dtype, tensor::DType::kF32);
  Meaning(graph);
  EXPECT_EQ(NarrowActivations(graph), graph);
}

TEST(NarrowActivations, LeavesFinerWeightsAlone) {
  Graph graph = LinearToMatmul(Layer(SelfAttention(kProject)));
  for (ir::Node& node : graph.nodes) {
    if (node.op == Op::kWeight && node.Text("name") == "{}.v") node.type.dtype = tensor::DType::kF16;
  }
  EXPECT_EQ(NarrowActivations(graph), graph);
}

TEST(DropDead, DropsWhatNothingReads) {
  const Graph graph = Checked(Layer(R"(
  %20 = linear(%3, %5) : f32[n, 6]
  %21 = silu(%20) : f32[n, 6]
  %50 = linear(%20, %7) : f32[n, 4]
)"),
                              DropDead);
  EXPECT_EQ(Count(graph, Op::kSilu), 0);
  EXPECT_THAT(ir::Print(graph), Not(HasSubstr("{}.b")));
}

TEST(Pipeline, NamesItsPassesAndDumpsEach) {
  std::vector<std::string> names;
  std::string last;
  PipelineOptions options{.kind = StepKind::kDecode, .math = Math::kBf16, .split_block = 4};
  options.dump = [&](std::string_view pass, std::string_view before, std::string_view after) {
    EXPECT_TRUE(last.empty() || before == last);
    last = after;
    names.emplace_back(pass);
  };
  const Graph graph = RunPasses(Layer(SelfAttention(kProject)), options);
  EXPECT_EQ(ir::Print(graph), last);
  EXPECT_THAT(names,
              ElementsAre("drop_dead", "specialize_decode", "linear_to_matmul", "fuse_qkv", "fuse_gate_up",
                          "fuse_residual", "fuse_norm", "split_attention", "narrow_activations"));
  EXPECT_THAT(PassNames({}), ElementsAre("drop_dead", "linear_to_matmul", "fuse_qkv", "fuse_gate_up",
                                         "fuse_residual", "fuse_norm"));
}

TEST(Pipeline, RefusesAGraphThatDoesNotVerify) {
  Graph graph = Layer(SelfAttention(kProject));
  graph.logits = 1000;
  EXPECT_THROW(RunPasses(graph, {}), base::Error);
}

}  // namespace
}  // namespace preheat::passes
