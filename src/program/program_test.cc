#include "program/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/damage_for_test.h"
#include "base/error.h"
#include "program/random_program.h"

namespace preheat::program {
namespace {

using base::Error;
using base::ErrorKind;
using ::testing::HasSubstr;

Program Sample() {
  Program program;
  program.name = "decode";
  program.target = "x86-64-v3";
  program.max_rows = 1;
  program.vocab_size = 300;
  program.layers = 2;
  program.kv = {"f32", 16, {0, 0, 128}, {0, 0, 128}};
  program.rotary = {{1.0f, 0.31622776f}, 1.0f};
  program.weights = {{"model.layers.{}.self_attn.q_proj.weight", tensor::DType::kBf16, {64, 32}}};
  program.buffers = {{"residual", {64, 128, 0}, 0}};
  program.slots = 1;
  const std::string hash(64, 'a');
  Launch launch{.region = "qkv",
                .code = hash,
                .entry = "qkv",
                .stage_entry = "",
                .tiles = {},
                .operands = {},
                .constants = {}};
  launch.operands = {{Operand::Kind::kWeight, 0, Operand::Access::kRead},
                     {Operand::Kind::kBuffer, 0, Operand::Access::kReadWrite}};
  launch.tensor_maps = {{.operand = 0, .swizzle_bytes = 64, .dims = {{32, 2, 32}, {64, 64, 8}}},
                        {.operand = 1, .element = tensor::DType::kF32, .dims = {{32, 4, 16}, {0, 128, 7}}}};
  program.segments = {{1, {launch}}, {2, {launch, launch}}, {1, {launch}, 1}};
  return program;
}

// The message of the error that reading `json` gives, checked for its kind.
std::string MessageOf(const std::string& json, ErrorKind kind = ErrorKind::kCorrupt) {
  try {
    FromJson(json, "a.bin");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.message();
    return error.message();
  }
  ADD_FAILURE() << "no error for " << json;
  return "";
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Program, TilesCountWhatTheyArePer) {
  EXPECT_EQ((TileCount{12, TileCount::Per::kStep, 4}).Tiles(100, 100), 12);
  EXPECT_EQ((TileCount{3, TileCount::Per::kRows, 8}).Tiles(17, 100), 9);
  EXPECT_EQ((TileCount{2, TileCount::Per::kPositions, 64}).Tiles(1, 63), 2);
  EXPECT_EQ((TileCount{2, TileCount::Per::kPositions, 64}).Tiles(1, 64), 4);
  EXPECT_EQ((Extent{5, 7, 11}).Bytes(2, 3), 5 + 14 + 33);
}

TEST(Program, JsonIsCanonicalAndStable) {
  const std::string json = ToJson(Sample());
  EXPECT_EQ(json, ToJson(FromJson(json, "a.bin")));
  EXPECT_THAT(
      json,
      HasSubstr(
          R"({"format_version":3,"name":"decode","target":"x86-64-v3","kind":"prefill","max_rows":1,)"));
  EXPECT_THAT(json, HasSubstr(R"("operands":[["weight",0,"read"],["buffer",0,"read_write"]])"));
}

TEST(Program, ReadingWhatWasWrittenGivesTheSameProgram) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const Program program = RandomProgram(random);
    EXPECT_EQ(FromJson(ToJson(program), "a.bin"), program);
  }
}

TEST(Program, CodeHashesNameEachImageOnceAndNoLibrary) {
  Program program = Sample();
  program.segments[0].launches[0].code = std::string(64, 'b');
  program.segments[1].launches[1].code = "library:eager";
  EXPECT_EQ(CodeHashes(program), (std::vector<std::string>{std::string(64, 'b'), std::string(64, 'a')}));
}

TEST(Program, DecodeHasLinksUpToALimit) {
  Program program = Sample();
  program.kind = StepKind::kDecode;
  program.segments[1].launches[0].link = 3;
  EXPECT_EQ(FromJson(ToJson(program), "a.bin"), program);
  EXPECT_THAT(MessageOf(Replaced(ToJson(program), "\"link\":3", "\"link\":65")), HasSubstr("link is 65"));
}

TEST(Program, AnotherFormatIsIncompatible) {
  EXPECT_THAT(MessageOf(Replaced(ToJson(Sample()), "\"format_version\":3", "\"format_version\":2"),
                        ErrorKind::kIncompatible),
              HasSubstr("format version 2, this preheat reads 3; build the artifact again"));
  EXPECT_THAT(MessageOf(Replaced(ToJson(Sample()), "\"format_version\":3", "\"format_version\":4,\"new\":0"),
                        ErrorKind::kIncompatible),
              HasSubstr("format version 4"));
}

TEST(Program, InconsistencyIsCorruptAndNamed) {
  const std::string json = ToJson(Sample());
  const struct {
    const char *from, *to, *expected;
  } cases[] = {
      {"[\"weight\",0,", "[\"weight\",1,", "segments[0].launches[0].operands[0][1] is 1: expected 0 to 0"},
      {"[\"buffer\",0,", "[\"buffer\",-1,", "expected 0 to 0"},
      {"[\"weight\",0,\"read\"]", "[\"weight\",0,\"write\"]", "writes what is constant"},
      {"[64,128,0]", "[-64,128,0]", "buffers[0][1][0] is -64"},
      {"[64,128,0]", "[64,9223372036854775807,0]", "expected 0 to"},
      {"[64,128,0]", "[64,1e3,0]", "is not an integer"},
      {"\"slots\":1", "\"slots\":0", "buffers[0][2] is 0"},
      {"\"repeat\":2", "\"repeat\":3", "segments[1].repeat is 3: expected 1 to 2"},
      {"\"first\":0", "\"first\":2", "segments[0].first is 2: expected 0 to 1"},
      {"\"repeat\":1,\"first\":1", "\"repeat\":2,\"first\":1", "segments[2].repeat is 2: expected 1 to 1"},
      {"\"chunk\":1", "\"chunk\":0", "chunk is 0"},
      {"\"link\":0", "\"link\":1", "link is 1: expected 0 to 0"},  // links are decode's
      {"\"layers\":2", "\"layers\":\"2\"", "layers is not an integer"},
      {"\"layers\":2,", "", "missing or unknown members"},
      {"\"layers\":2,", "\"layers\":2,\"more\":1,", "missing or unknown members"},
      {"\"layers\":2,", "\"layers\":2,\"name\":\"\",", "missing or unknown members"},
      {"\"bf16\"", "\"bfloat16\"", "unknown type"},
      {"[64,32]", "[4294967296,4294967296]", "too large"},
      {"\"entry\":\"qkv\"", "\"entry\":\"\"", "entry is empty"},
      {"aaaa", "AAAA", "neither a SHA-256"},
      {"[1,\"step\",1]", "[1,\"step\",0]", "expected 1 to"},
      {"\"last\"", "\"first\"", "unknown word"},
      {"\"scale\":1.0", "\"scale\":1e39", "no fp32 number"},
      {"[0,\"bf16\",64,", "[2,\"bf16\",64,", "tensor_maps[0][0] is 2: expected 0 to 1"},
      {"[0,\"bf16\",64,", "[0,\"bf17\",64,", "unknown type"},
      {"[0,\"bf16\",64,", "[0,\"i32\",64,", "tensor_maps[0] is of no floating-point type"},
      {"[64,64,8]", "[65,64,8]", "tensor_maps[0] reaches out of its operand"},
      {"[64,64,8]", "[4294967296,1099511627776,8]", "reaches out of its operand"},
      {"[64,64,8]", "[0,64,8]", "reaches out of its operand"},
      {"[64,64,8]", "[64,64,257]", "expected 1 to 256"},
      {"[0,128,7]", "[0,132,7]", "tensor_maps[1] reaches out of its operand"},
      {"[[32,4,16],[0,128,7]]", "[[49,4,16],[0,128,7]]", "reaches out of its operand"},
      {"[[32,4,16],[0,128,7]]", "[]", "has no dimensions"},
      {"}]}]}", "}]}]", "is no JSON"},
  };
  for (const auto& [from, to, expected] : cases) {
    EXPECT_THAT(MessageOf(Replaced(json, from, to)), HasSubstr(expected)) << to;
  }
  for (const char* text :
       {"", "null", "[]", "7", "{}", "\"", "{\"format_version\":0}", "{\"format_version\":[]}"}) {
    EXPECT_THAT(MessageOf(text), HasSubstr("a.bin: the program's ")) << text;
  }
}

TEST(Program, DeepNestingIsAnErrorNotAStackOverflow) {
  MessageOf(std::string(2'000'000, '['));
  MessageOf("{\"format_version\":3,\"name\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') +
            "}");
}

TEST(Program, DamagedTextIsReadOrRefusedButNeverWorse) {
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const std::string json =
        base::Damaged(ToJson(seed % 2 ? Sample() : RandomProgram(random)), "{}[],:\"0123456789-e.", random);
    try {
      const Program program = FromJson(json, "a.bin");
      EXPECT_EQ(FromJson(ToJson(program), "a.bin"), program);
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind() == ErrorKind::kCorrupt || error.kind() == ErrorKind::kIncompatible)
          << error.message();
    }
  }
}

}  // namespace
}  // namespace preheat::program
