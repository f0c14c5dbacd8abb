// Fusing an MLP: gate and up into one product, the residual and the norm into products.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "passes/drop_dead.h"
#include "passes/fuse_gate_up.h"
#include "passes/fuse_norm.h"
#include "passes/fuse_residual.h"
#include "passes/graphs_for_test.h"
#include "passes/linear_to_matmul.h"

namespace preheat::passes {
namespace {

using ::testing::HasSubstr;

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

}  // namespace
}  // namespace preheat::passes
