#include "ir/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/damage_for_test.h"
#include "base/error.h"
#include "ir/printer.h"

namespace preheat::ir {
namespace {

using base::Error;
using base::ErrorKind;
using ::testing::HasSubstr;

// Two layers of attention alone, captured and fused forms side by side. heads 2, kv_heads 1, head_dim 2, h 4,
// vocab 6.
const char kDecode[] = R"(graph "decode"
rotary scale 1 inv_freq 1
block "embed"
  %0 = ids : i32[1]
  %1 = weight {name = "table"} : bf16[6, 4]
  %2 = embedding(%0, %1) : f32[1, 4]
block "layers" repeat 2 carry %2
  %3 = carry : f32[1, 4]
  %4 = weight {name = "{}.norm"} : bf16[4]
  %5 = weight {name = "{}.q"} : bf16[4, 4]
  %6 = weight {name = "{}.k"} : bf16[2, 4]
  %7 = weight {name = "{}.v"} : bf16[2, 4]
  %8 = kv_cache : bf16[2, past, 1, 2]
  %9 = matmul(%3, %4, %5, %6, %7, %8) {bias = 0, epilogue = "rotary_append", eps = 1e-05, head_dim = 2, math = "bf16", parts = 3, prologue = "rms_norm"} : bf16[1, 4]
  %10 = appended_cache(%9) : bf16[2, past+n, 1, 2]
  %11 = split_attention(%9, %10) {block = 8, head_dim = 2, heads = 2, kv_heads = 1, scale = 0.7} : f32[splits, 2, 4]
  %12 = weight {name = "{}.o"} : bf16[4, 4]
  %13 = matmul(%11, %12, %3) {bias = 0, epilogue = "add", math = "bf16", parts = 1, prologue = "merge"} : f32[1, 4]
  yield %13
block "head"
  %14 = linear(%13, %1) : f32[1, 6]
  %15 = sample(%14) : i32[1]
logits %14
token %15
)";
const char kPrefill[] = R"(graph "prefill"
rotary scale 1 inv_freq 1
block "embed"
  %0 = ids : i32[n]
  %1 = weight {name = "table"} : f16[6, 4]
  %2 = embedding(%0, %1) : f32[n, 4]
block "layers" repeat 2 carry %2
  %3 = carry : f32[n, 4]
  %4 = weight {name = "{}.norm"} : f16[4]
  %5 = rms_norm(%3, %4) {eps = 1e-05} : f32[n, 4]
  %6 = weight {name = "{}.k"} : f16[2, 4]
  %7 = weight {name = "{}.k.bias"} : f16[2]
  %8 = linear(%5, %6, %7) : f32[n, 2]
  %9 = rotary(%8) {head_dim = 2} : f32[n, 2]
  %10 = kv_cache : f32[2, past, 1, 2]
  %11 = append(%10, %9, %8) : f32[2, past+n, 1, 2]
  %12 = attention(%5, %11) {head_dim = 2, heads = 2, kv_heads = 1, scale = 0.7} : f32[n, 4]
  %13 = silu(%12) : f32[n, 4]
  %14 = mul(%13, %12) : f32[n, 4]
  %15 = add(%14, %3) : f32[n, 4]
  %16 = probe(%15) : f32[n, 4]
  yield %16
block "head"
  %17 = last_row(%16) : f32[1, 4]
  %18 = linear(%17, %1) : f32[1, 6]
  %19 = sample(%18) : i32[1]
logits %18
token %19
)";

// What parsing `text`, with its first `from` replaced by `to`, is told.
std::string MessageOf(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  try {
    Parse(text, "g.txt");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    return error.message();
  }
  return "no error";
}

TEST(Printer, TextReadsBackAndPrintsTheSame) {
  for (const char* text : {kDecode, kPrefill}) EXPECT_EQ(Print(Parse(text, "g.txt")), text);
}

TEST(Printer, AwkwardTextsAndNumbersSurvive) {
  Graph graph = Parse(kPrefill, "g.txt");
  graph.name = "a \"quoted\" \\ name\n\x01 \xc3\xa9";
  graph.blocks[0].name = "";
  graph.rotary = {{0.1f}, 1e-30f};
  graph.nodes[1].attributes["name"] = std::string("t\tab;le");
  graph.nodes[5].attributes["eps"] = 3.0;
  graph.nodes[12].attributes["scale"] = -1.2345678901234567e-100;
  EXPECT_EQ(Parse(Print(graph), "g.txt"), graph);
}

TEST(Parser, CommentsAndBlanksDoNotMatter) {
  std::string text = kPrefill;
  text.insert(0, "; a comment\n\n");
  text.insert(text.find(" : i32[n]"), "   ");
  EXPECT_EQ(Print(Parse(text, "g.txt")), kPrefill);
}

TEST(Parser, FaultsNameTheLine) {
  EXPECT_THAT(MessageOf(kPrefill, "= ids", "= idz"), HasSubstr("g.txt:4: unknown operation idz"));
  EXPECT_THAT(MessageOf(kPrefill, "i32[n]", "i33[n]"), HasSubstr("g.txt:4: unknown type i33"));
  EXPECT_THAT(MessageOf(kPrefill, "i32[n]", "i32[n"), HasSubstr("g.txt:4: expected ']'"));
  EXPECT_THAT(MessageOf(kPrefill, "i32[n]", "i32[n] x"), HasSubstr("expected the end of the line"));
  EXPECT_THAT(MessageOf(kPrefill, "\"table\"", "\"table"), HasSubstr("g.txt:5: expected '\"'"));
  EXPECT_THAT(MessageOf(kPrefill, "%1 = weight", "%0 = weight"), HasSubstr("g.txt:5: %0 is defined twice"));
  EXPECT_THAT(MessageOf(kPrefill, "%19 = sample", "%29 = sample"), HasSubstr("a %29, but no %19"));
  EXPECT_THAT(MessageOf(kPrefill, "mul(%13, %12)", "mul(%13, %99)"),
              HasSubstr("%14 reads %99, which is not defined"));
  EXPECT_THAT(MessageOf(kPrefill, "block \"embed\"\n", ""), HasSubstr("g.txt:3: a node outside of a block"));
  EXPECT_THAT(MessageOf(kPrefill, "eps = 1e-05", "eps = 1, eps = 2"), HasSubstr("attribute given twice"));
}

TEST(Verify, EachBrokenRuleIsNamedWithItsNode) {
  const struct {
    const char *text, *from, *to, *expected;
  } cases[] = {
      // Order and blocks.
      {kPrefill, "silu(%12)", "silu(%14)", "%13 (silu) reads %14, which does not stand before it"},
      {kPrefill, "last_row(%16)", "last_row(%15)", "%17 (last_row) reads %15"},
      {kPrefill, "repeat 2", "repeat 0", "repeats 0 times"},
      {kPrefill, "carry %2", "carry %16", "carries %16, which no earlier block gives"},
      {kPrefill, "  yield %16\n", "", "repeats or carries but yields nothing"},
      {kPrefill, "yield %16", "yield %17", "yields %17, which is not there"},
      {kPrefill, "yield %16", "yield %9", "%9 (rotary) is yielded as f32[n, 2]"},
      {kPrefill, "block \"head\"", "block \"more\" repeat 2 carry %16\n  yield %16\nblock \"head\"",
       "block \"more\" repeats from layer 0: expected 2"},
      {kPrefill, "block \"head\"", "block \"more\" repeat 2 from 3 carry %16\n  yield %16\nblock \"head\"",
       "block \"more\" repeats from layer 3: expected 2"},
      {kPrefill, "repeat 2", "repeat 2 from 1", "block \"layers\" repeats from layer 1: expected 0"},
      {kPrefill, "  %17 =", "  %20 = kv_cache : f32[2, past, 1, 2]\n  %17 =", "block that does not repeat"},
      {kPrefill, "\"table\"", "\"{}.table\"", "names a layer's weight in a block that does not repeat"},
      {kPrefill, "  %17 =", "  %20 = carry : f32[n, 4]\n  %17 =", "%20 (carry)"},
      {kPrefill, "  %12 =", "  %20 = append(%10, %9, %8) : f32[2, past+n, 1, 2]\n  %12 =",
       "is read by more than one node"},
      {kPrefill, "  %17 =", "  %20 = ids : i32[n]\n  %17 =", "second ids"},
      // Results.
      {kPrefill, "logits %18", "", "the logits, %-1, are not there"},
      {kPrefill, "logits %18", "logits %9", "the logits, %9, are not there"},
      {kPrefill, "logits %18", "logits %19", "%19 (sample) cannot be logits"},
      {kPrefill, "token %19", "token %18", "the token, %18, is not sampled"},
      // Types.
      {kPrefill, ": f32[n, 4]\nblock \"layers\"", ": f32[n, 5]\nblock \"layers\"",
       "has type f32[n, 5]: expected f32[n, 4]"},
      {kPrefill, "%3 = carry : f32[n, 4]", "%3 = carry : f32[n, 5]",
       "another type than what its block carries"},
      {kPrefill, "i32[n]", "i32[past]", "has type i32[past], which its operation cannot have"},
      {kPrefill, "f16[6, 4]", "f16[6, -4]", "expected extents from 1"},
      {kPrefill, "f16[6, 4]", "f16[6, n]", "which its operation cannot have"},
      {kPrefill, "f16[6, 4]", "i32[6, 4]", "which its operation cannot have"},
      {kPrefill, "f32[2, past+n, 1, 2]", "bf16[2, past+n, 1, 2]",
       "has type bf16[2, past+n, 1, 2]: expected f32"},
      // Inputs.
      {kPrefill, "embedding(%0, %1)", "embedding(%1, %1)", "looks up what is not ids"},
      {kPrefill, "rms_norm(%3, %4)", "rms_norm(%3, %3)", "expected a weight"},
      {kPrefill, "rms_norm(%3, %4)", "rms_norm(%4, %4)", "takes a weight as input 0"},
      {kPrefill, "rms_norm(%3, %4)", "rms_norm(%3)", "has 1 inputs: expected 2 to 2"},
      {kPrefill, "linear(%5, %6, %7)", "linear(%3, %6, %4)", "expected extent 2 on axis 0"},
      {kPrefill, "linear(%17, %1)", "linear(%17, %1, %1)", "expected 1 extents"},
      {kPrefill, "append(%10, %9, %8)", "append(%10, %9, %5)", "has input 2 of type f32[n, 4]"},
      {kPrefill, "attention(%5, %11)", "attention(%5, %9)", "expected the cache after this step's rows"},
      {kPrefill, "attention(%5, %11)", "attention(%5, %10)", "%10 (kv_cache) is read by more than one node"},
      {kPrefill, "attention(%5, %11)", "attention(%8, %11)", "has q of width 2: expected 4"},
      {kPrefill, "last_row(%16) : f32[1, 4]\n  %18 = linear(%17, %1) : f32[1, 6]",
       "probe(%16) : f32[n, 4]\n  %18 = linear(%17, %1) : f32[n, 6]", "samples from more than one row"},
      // Attributes.
      {kPrefill, "{eps = 1e-05}", "", "has no attribute eps"},
      {kPrefill, "eps = 1e-05", "eps = 1", "an attribute eps that is not a real number"},
      {kPrefill, "eps = 1e-05", "eps = nan", "expected a finite number"},
      {kPrefill, "eps = 1e-05", "eps = 1e-05, more = 1", "attributes that its operation does not know"},
      {kPrefill, "rotary(%8) {head_dim = 2}", "rotary(%8) {head_dim = 3}", "expected an even divisor"},
      {kPrefill, "inv_freq 1", "inv_freq 1 1", "the graph has 2 rotary frequencies"},
      {kPrefill, "inv_freq 1", "inv_freq inf", "a rotary frequency is not finite"},
      {kPrefill, "kv_heads = 1", "kv_heads = 0", "has kv_heads = 0"},
      {kPrefill, "heads = 2", "heads = 2305843009213693952", "expected 1 to"},
      // Regions.
      {kDecode, "\"rms_norm\"", "\"norm\"", "unknown prologue \"norm\""},
      {kDecode, "\"add\"", "\"sub\"", "unknown epilogue \"sub\""},
      {kDecode, "\"bf16\", parts = 3", "\"f64\", parts = 3", "unknown math \"f64\""},
      {kDecode, "parts = 3", "parts = 2", "has parts = 2: expected 3 to 3"},
      {kDecode, "bias = 0", "bias = 1", "has 6 inputs: expected 9"},
      {kDecode, "matmul(%11, %12, %3)", "matmul(%9, %12, %3)", "merges what is not a split_attention"},
      {kDecode, "matmul(%11, %12, %3)", "matmul(%11, %12, %12)", "takes a weight as input 2"},
      {kDecode, "%8) {", "%10) {", "does not stand before it"},
      {kDecode, "appended_cache(%9)", "appended_cache(%3)", "names the cache of what appends nothing"},
      {kDecode, "block = 8", "block = 0", "has block = 0"},
      {kDecode, "f32[splits, 2, 4]", "bf16[splits, 2, 4]", "expected f32[splits, 2, 4]"},
  };
  for (const auto& [text, from, to, expected] : cases) {
    const std::string message = MessageOf(text, from, to);
    EXPECT_THAT(message, HasSubstr(expected)) << from << " -> " << to;
  }
}

TEST(Verify, ValuesMayBeNarrowButNotTheResidual) {
  EXPECT_EQ(MessageOf(kPrefill, "silu(%12) : f32", "silu(%12) : bf16"), "no error");
  EXPECT_THAT(MessageOf(kPrefill, "probe(%15) : f32", "probe(%15) : bf16"), HasSubstr("expected f32[n, 4]"));
}

TEST(Verify, NodesOutsideOfBlocksAreAnError) {
  Graph graph = Parse(kPrefill, "g.txt");
  graph.nodes.push_back(graph.nodes[0]);
  EXPECT_THROW(Verify(graph), Error);
  graph.nodes.pop_back();
  graph.blocks[2].nodes.push_back(17);
  EXPECT_THROW(Verify(graph), Error);
  graph.blocks[2].nodes.back() = 1000;
  EXPECT_THROW(Verify(graph), Error);
}

TEST(Parser, DamagedTextIsReadOrRefusedButNeverWorse) {
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const std::string text =
        base::Damaged(seed % 2 ? kDecode : kPrefill, "%0123456789n[](){},\"= \n", random);
    try {
      const Graph graph = Parse(text, "g.txt");
      EXPECT_EQ(Parse(Print(graph), "g.txt"), graph);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt) << error.message();
    }
  }
}

}  // namespace
}  // namespace preheat::ir
