// Generated matmuls against a plain reference, on every target that this processor runs.
#include "codegen/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "codegen/matmul_for_test.h"
#include "codegen/matmul_reference_for_test.h"

namespace preheat::codegen {
namespace {

void CheckRows(const MatmulCase& c, const Target& target, const UnitForTest& unit, const RegionCode& code,
               int64_t rows) {
  const MatmulGraph g = MakeGraph(c);
  MatmulData d(c, g, rows, c.prologue == "merge" ? 150 : c.epilogue == "rotary_append" ? 5 : 0);
  SCOPED_TRACE(c.Name() + " on " + target.name + ", rows " + std::to_string(rows));
  d.Run(unit, code);
  const Reference reference{d};
  CheckOutput(d, reference);
  if (!testing::Test::HasFatalFailure() && c.epilogue == "rotary_append") CheckCache(d, target, reference);
}

// Every prologue, epilogue, type; sizes that are multiples of nothing.
std::vector<MatmulCase> Cases() {
  return {
      {.k = 64, .columns = {64}},
      {.k = 33, .columns = {7}, .x = DType::kBf16},
      {.k = 1, .columns = {1}, .math = "f32"},
      {.k = 576, .columns = {192}, .x = DType::kBf16, .out = DType::kBf16},
      {.k = 192, .columns = {300}, .logits = true},
      {.k = 130, .columns = {65}, .weight = DType::kF16, .x = DType::kF16, .out = DType::kF16, .math = "f32"},
      {.k = 96, .columns = {50}, .weight = DType::kF32, .math = "f32", .bias = true},
      {.k = 66, .columns = {40}, .weight = DType::kF16, .x = DType::kBf16, .bias = true},
      {.prologue = "rms_norm", .k = 100, .columns = {96}},
      {.prologue = "rms_norm", .epilogue = "silu_mul", .k = 64, .columns = {192, 192}, .out = DType::kBf16},
      {.prologue = "rms_norm",
       .epilogue = "silu_mul",
       .k = 47,
       .columns = {29, 29},
       .weight = DType::kF32,
       .math = "f32",
       .bias = true},
      {.epilogue = "add", .k = 192, .columns = {64}, .x = DType::kBf16, .bias = true},
      {.epilogue = "add", .k = 35, .columns = {33}, .weight = DType::kF32, .math = "f32"},
      {.prologue = "rms_norm",
       .epilogue = "rotary_append",
       .k = 64,
       .columns = {64, 32, 32},
       .out = DType::kBf16,
       .bias = true,
       .head_dim = 16},
      {.prologue = "rms_norm",
       .epilogue = "rotary_append",
       .k = 97,
       .columns = {72, 24, 24},
       .weight = DType::kF32,
       .math = "f32",
       .head_dim = 12,
       .cache = DType::kF32},
      {.epilogue = "rotary_append",
       .k = 64,
       .columns = {256, 128, 128},
       .head_dim = 128,
       .cache = DType::kF16},
  };
}

TEST(Matmul, PanelsAgreeWithTheReferenceAtAnyNumberOfRows) {
  for (const Target& target : TargetsHere()) {
    for (const MatmulCase& c : Cases()) {
      const MatmulGraph g = MakeGraph(c);
      Schedule schedule = matmul::DefaultSchedule(g.graph, g.matmul, target, {});
      schedule["row_block"] = 24;  // so that 33 and 128 rows are several blocks
      if (c.k > 64) schedule["kc"] = 64;
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {}, schedule);
      const UnitForTest unit(code.source, target);
      for (const int64_t rows : {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 128}) {
        if (rows == 128 && c.k > 100) continue;
        CheckRows(c, target, unit, code, rows);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Matmul, OneRowAgreesWithTheReference) {
  std::vector<MatmulCase> cases = Cases();
  cases.push_back({.prologue = "merge", .epilogue = "add", .k = 64, .columns = {40}, .head_dim = 16});
  cases.push_back({.prologue = "merge",
                   .epilogue = "add",
                   .k = 36,
                   .columns = {17},
                   .weight = DType::kF32,
                   .math = "f32",
                   .bias = true,
                   .head_dim = 12});
  cases.push_back({.prologue = "merge", .epilogue = "store", .k = 256, .columns = {64}, .head_dim = 128});
  for (const Target& target : TargetsHere()) {
    for (const MatmulCase& c : cases) {
      const MatmulGraph g = MakeGraph(c);
      const StepShape shape{.rows = 1, .threads = 2};
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, shape,
                                               matmul::DefaultSchedule(g.graph, g.matmul, target, shape));
      const UnitForTest unit(code.source, target);
      CheckRows(c, target, unit, code, 1);
      if (HasFatalFailure()) return;
    }
  }
}

// What the tuner may choose between: all right, and all panels the same to the last bit.
TEST(Matmul, EveryPanelScheduleGivesTheSameBits) {
  const MatmulCase c{.prologue = "rms_norm", .epilogue = "silu_mul", .k = 600, .columns = {100, 100}};
  const MatmulGraph g = MakeGraph(c);
  for (const Target& target : TargetsHere()) {
    std::vector<Schedule> schedules = matmul::Candidates(g.graph, g.matmul, target, {.rows = 128});
    ASSERT_EQ(schedules[0], matmul::DefaultSchedule(g.graph, g.matmul, target, {.rows = 128}));
    std::string first;
    for (const Schedule& schedule : schedules) {
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {.rows = 128}, schedule);
      const UnitForTest unit(code.source, target);
      MatmulData d(c, g, 37);
      d.Run(unit, code);
      const std::string bytes(d.out.bytes.data(), d.out.bytes.size());
      if (first.empty()) first = bytes;
      ASSERT_TRUE(bytes == first) << target.name << " " << ToText(schedule);
    }
  }
}

TEST(Matmul, EveryOneRowScheduleAgreesWithTheReference) {
  const MatmulCase c{
      .prologue = "rms_norm", .epilogue = "rotary_append", .k = 200, .columns = {64, 32, 32}, .head_dim = 32};
  const MatmulGraph g = MakeGraph(c);
  const Target target = TargetsHere().front();
  for (const Schedule& schedule : matmul::Candidates(g.graph, g.matmul, target, {.rows = 1})) {
    SCOPED_TRACE(ToText(schedule));
    const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {.rows = 1}, schedule);
    const UnitForTest unit(code.source, target);
    CheckRows(c, target, unit, code, 1);
    if (HasFatalFailure()) return;
  }
}

// The text as people read it; PREHEAT_UPDATE_GOLDENS=1 writes it anew. The prelude is not repeated.
void ExpectGolden(const std::string& name, const std::string& source) {
  const std::string body = source.substr(source.find("typedef bf16 W;"));
  const std::string path = std::string(PREHEAT_TESTDATA) + "/codegen/" + name;
  if (std::getenv("PREHEAT_UPDATE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << body;
  }
  std::ifstream file(path);
  const std::string golden(std::istreambuf_iterator<char>(file), {});
  EXPECT_TRUE(golden == body) << path << " differs; see the difference after PREHEAT_UPDATE_GOLDENS=1";
}

TEST(Matmul, GeneratedTextIsAsReviewed) {
  const Target target = ParseTarget("x86-64-v4+avx512bf16");
  const MatmulGraph qkv = MakeGraph({.prologue = "rms_norm",
                                     .epilogue = "rotary_append",
                                     .k = 3072,
                                     .columns = {3072, 1024, 1024},
                                     .out = DType::kBf16,
                                     .head_dim = 128});
  const StepShape decode{.rows = 1, .threads = 2}, prefill{.rows = 512, .threads = 2};
  ExpectGolden("matmul_qkv_one_row.cc",
               matmul::Generate(qkv.graph, qkv.matmul, target, decode,
                                matmul::DefaultSchedule(qkv.graph, qkv.matmul, target, decode))
                   .source);
  const MatmulGraph gate_up = MakeGraph({.prologue = "rms_norm",
                                         .epilogue = "silu_mul",
                                         .k = 3072,
                                         .columns = {8192, 8192},
                                         .out = DType::kBf16});
  ExpectGolden("matmul_gate_up_panel.cc",
               matmul::Generate(gate_up.graph, gate_up.matmul, target, prefill,
                                matmul::DefaultSchedule(gate_up.graph, gate_up.matmul, target, prefill))
                   .source);
}

// Buckets share machine code: it is compiled once, since equal text has an equal key.
TEST(Matmul, DefaultTextDoesNotDependOnTheBucket) {
  const Target target = ParseTarget("x86-64-v4+avx512bf16");
  const MatmulGraph g = MakeGraph({.epilogue = "add", .k = 3072, .columns = {3072}, .x = DType::kBf16});
  std::string first;
  for (const int64_t rows : {0, 128, 256, 1024}) {
    const StepShape shape{.rows = rows, .threads = 2};
    const std::string source = matmul::Generate(g.graph, g.matmul, target, shape,
                                                matmul::DefaultSchedule(g.graph, g.matmul, target, shape))
                                   .source;
    if (first.empty()) first = source;
    EXPECT_EQ(first, source) << rows;
  }
}

TEST(Matmul, WhatHasNoGeneratorIsNotCompiled) {
  MatmulGraph g = MakeGraph({.k = 64, .columns = {64}});
  const Target target = ParseTarget("x86-64-v3");
  EXPECT_TRUE(matmul::CanCompile(g.graph, g.matmul, target));
  EXPECT_FALSE(matmul::CanCompile(g.graph, g.x, target));
  g.graph[g.matmul].attributes["epilogue"] = std::string("tanh");
  EXPECT_FALSE(matmul::CanCompile(g.graph, g.matmul, target));
}

}  // namespace
}  // namespace preheat::codegen
