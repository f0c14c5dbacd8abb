// Command lines that are wrong: exit code 2 (or what the contract says), and the nearest valid word.
#include "end_to_end/end_to_end.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;

class BadUsage : public EndToEnd {
 protected:
  struct Case {
    Words words;
    Words texts;
    int exit_code = 2;
  };
  void ExpectEach(const std::vector<Case>& cases) const {
    for (const Case& one : cases) {
      SCOPED_TRACE(one.words.empty() ? "" : one.words.back());
      const auto result = Preheat(one.words);
      ExpectError(result, one.exit_code, one.texts);
      EXPECT_EQ(result.out, "");
    }
  }
};

TEST_F(BadUsage, NoCommandPrintsTheUsage) {
  const auto result = Preheat({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("usage: preheat COMMAND"));
  EXPECT_EQ(result.out, "");
}

TEST_F(BadUsage, UnknownWordsNameTheNearest) {
  ExpectEach({
      {{"bild"}, {"unknown command bild: did you mean build?"}},
      {{"build", "--prefil-lengths", "3"},
       {"unknown option --prefil-lengths: did you mean --prefill-lengths?"}},
      {{"run", "--max-new-token=3"}, {"did you mean --max-new-tokens?"}},
      {{"run", "stray"}, {"unexpected argument stray"}},
      {{"build", "--compile-mode", "max-autotun"}, {"did you mean max-autotune? Valid values: default,"}},
      {{"run", "--dtype", "bf61"}, {"did you mean bf16?"}},
      {{"run", "--execution", "compile"}, {"did you mean compiled?"}},
      {{"run", "--compile-dynamic", "maybe"}, {"Valid values: auto, true, false"}},
      {{"run", "--cache-implementation", "statik"}, {"did you mean static?"}},
      {{"benchmark", "--single-mode", "compile_preloaded"}, {"did you mean compile_preload?"}},
      {{"run", "--device", "gpu"}, {"Valid values: auto, cpu, cuda[:N]"}},
      {{"build", "--targets", "x86-64-v9"}, {"unknown target \"x86-64-v9\"", "x86-64-v3"}},
      {{"devices", "--jason"}, {"unknown option --jason: did you mean --json? See preheat devices --help"}},
      {{"synth", "--shape", "llama-9", "--output", File("s")}, {"unknown shape \"llama-9\"", "llama-3.2-1b"}},
  });
}

TEST_F(BadUsage, LengthsAndCounts) {
  ExpectEach({
      {{"build", "--prefill-lengths", "128,x"}, {"\"x\" is no positive whole number"}},
      {{"build", "--prefill-lengths", "0"}, {"\"0\" is no positive whole number"}},
      {{"build", "--prefill-lengths", "128,-4"}, {"\"-4\" is no positive whole number"}},
      {{"build", "--prefill-lengths", " , "}, {"needs at least one length"}},
      {{"run", "--prefill-buckets", "1.5"}, {"\"1.5\" is no positive whole number"}},
      {{"build", "--decode-length", "0"}, {"--decode-length 0: needs a whole number of at least 1"}},
      {{"build", "--batch-size", "2"}, {"--batch-size 2: only 1 is there"}},
      {{"run", "--max-new-tokens", "0"}, {"at least 1"}},
      {{"run", "--max-new-tokens", "99999999999999999999"}, {"needs a whole number"}},
      {{"run", "--temperature", "-1"}, {"--temperature -1: needs a number of at least 0"}},
      {{"run", "--temperature", "nan"}, {"needs a number"}},
      {{"run", "--top-p", "2"}, {"from 0 to 1"}},
      {{"compare", "--compare-runs", "0"}, {"at least 1"}},
      {{"benchmark", "--num-requests", "0"}, {"at least 1"}},
      {{"benchmark", "--repeats", "-1"}, {"at least 1"}},
      {{"run", "--threads", "-1"}, {"at least 0"}},
      {{"run", "--threads", "1000000"}, {"--threads 1000000: at most 1024 are possible"}},
      {{"synth", "--shards", "0"}, {"--shards 0: needs a whole number of at least 1"}},
      {{"logits", "--decode-from", "-3"}, {"--decode-from -3: needs a whole number of at least 1"}},
      {{"build", "--prefill-lengths", "99999999999999999999"}, {"is no positive whole number"}},
      {{"run", "--prompt-ids", "1,x"}, {"\"x\" is no token id"}},
      {{"run", "--prompt-ids", ","}, {"needs at least one id"}},
      {{"run", "--prompt", "x", "--prompt-ids", "1"}, {"--prompt-ids excludes --prompt"}},
  });
}

TEST_F(BadUsage, WhatMustCompileCannotBeForbiddenTo) {
  const std::string comparison =
      "--forbid-compile: a comparison has trials that must compile; leave one of the two out";
  ExpectEach({
      {{"compare", "--forbid-compile"}, {comparison}},
      {{"run", "--compare-load-vs-skip", "--forbid-compile"}, {comparison}},
      {{"benchmark", "--forbid-compile"},
       {"--forbid-compile: a benchmark has a mode that must compile; use --single-mode compile_preload"}},
      {{"benchmark", "--single-mode", "compile_no_preload", "--forbid-compile"}, {"must compile"}},
  });
}

TEST_F(BadUsage, AMissingValueOrFile) {
  ExpectEach({
      {{"run", "--prompt"}, {"--prompt", "--help"}},
      {{"inspect"}, {"ARTIFACT is required"}},
      {{"verify"}, {"ARTIFACT is required"}},
      {{"synth"}, {"--shape and --output"}},
  });
}

TEST_F(BadUsage, OnlyCompiledCodeHasATarget) {
  for (const std::string execution : {"eager", "interpreter"}) {
    ExpectEach(
        {{{"logits", "--prompt", "x", "--output", File("l"), "--target", "sm_80", "--execution", execution},
          {"--target names compiled code: leave it out with --execution " + execution}}});
  }
}

TEST_F(BadUsage, WhatIsNotThereYetSaysSo) {
  ExpectEach({
      {{"run", "--chat"}, {"chat templates are not there yet"}},
  });
}

TEST_F(BadUsage, ARepeatedOptionsLastValueCounts) {
  const auto result =
      Preheat(OnTiny("run", {"--prompt", "x", "--prompt", kSum, "--max-new-tokens", "5", "--max-new-tokens",
                             "20", "--bucket-pad", "--no-bucket-pad", "--quiet"}));
  ExpectDone(result);
  EXPECT_EQ(result.out, std::string(kSumAnswer) + "\n");
}

}  // namespace
}  // namespace preheat::testing
