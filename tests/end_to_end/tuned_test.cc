// max-autotune: candidates are measured once and kept, the artifact serves like any other, and whoever waits
// for it sees it move.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include "end_to_end/end_to_end.h"
#include "end_to_end/terminal.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Tuned : public EndToEnd {
 protected:
  // The suite's one expensive build, watched on a terminal.
  struct TunedBuild {
    sys::UniqueTempDir folder{"preheat-e2e"};
    std::string cache = folder.File("cache");
    sys::SpawnResult result;
    std::string shown;
  };
  const TunedBuild& First() const {
    static const TunedBuild* const first = [this] {
      static TunedBuild made;
      made.result =
          OnTerminal(BuildWords(made.folder.path()), {{"PREHEAT_CACHE_DIR", made.cache}}, made.shown);
      ExpectDone(made.result);
      return &made;
    }();
    return *first;
  }

  static Words BuildWords(const std::string& folder, const Words& more = {}) {
    Words words = {"build",
                   "--model-id",
                   TinyModel(),
                   "--compile-mode",
                   "max-autotune",
                   "--compile-dynamic",
                   "false",
                   "--prefill-lengths",
                   "32",
                   "--cache-path",
                   folder + "/tuned.bin",
                   "--metadata-path",
                   folder + "/tuned.json"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  // With a terminal as stderr; `shown` is what appeared there.
  sys::SpawnResult OnTerminal(const Words& words, Environment changes, std::string& shown) const {
    Terminal terminal;
    Words shell = {"-c", "terminal=$1; shift; exec \"$0\" \"$@\" 2>\"$terminal\"", PREHEAT_BINARY,
                   terminal.path()};
    shell.insert(shell.end(), words.begin(), words.end());
    changes.insert(changes.begin(), {"TERM", "xterm"});
    sys::SpawnOptions options;
    options.env = std::move(changes);
    const sys::SpawnResult result = Start("/bin/sh", shell, options);
    shown = terminal.Text();
    return result;
  }

  // The percentages that the first bar of this label went through.
  static std::vector<int> PercentsOf(const std::string& shown, const std::string& label) {
    std::vector<int> percents;
    for (size_t at = 0; (at = shown.find("\r\033[K" + label + " [", at)) != std::string::npos; ++at) {
      const size_t end = shown.find("] ", at);
      const int percent = end == std::string::npos ? 0 : std::atoi(shown.c_str() + end + 2);
      if (percent == 0 && !percents.empty() && percents.back() > 0) break;  // the next bar
      percents.push_back(percent);
    }
    return percents;
  }
  static void ExpectBarMoved(const std::string& shown, const std::string& label) {
    const std::vector<int> percents = PercentsOf(shown, label);
    EXPECT_GE(std::set<int>(percents.begin(), percents.end()).size(), 4u) << label << " in:\n" << shown;
    EXPECT_TRUE(std::is_sorted(percents.begin(), percents.end())) << label << " in:\n" << shown;
  }

  // Names and bytes of what the store keeps of one kind.
  static std::map<std::string, std::string> Entries(const std::string& cache, const std::string& kind) {
    std::map<std::string, std::string> entries;
    for (const std::string& part : sys::ListDir(cache + "/v1/" + kind)) {
      for (const std::string& name : sys::ListDir(cache + "/v1/" + kind + "/" + part)) {
        entries[name] = sys::ReadFile(cache + "/v1/" + kind + "/" + part + "/" + name);
      }
    }
    return entries;
  }
};

TEST_F(Tuned, BuildMeasuresAndKeepsItsRecords) {
  const TunedBuild& first = First();
  EXPECT_THAT(first.result.out, HasSubstr(": tuning: "));
  EXPECT_THAT(first.result.out, Not(HasSubstr(": tuning: 0.0000s")));
  EXPECT_GE(Entries(first.cache, "tuning").size(), 4u);
  // Each region's winner was chosen among several: many more units than the two programs hold.
  const auto artifact = ParseJson(Preheat({"inspect", first.folder.File("tuned.bin"), "--json"}).out);
  size_t codes = 0;
  for (const auto& entry : artifact["entries"].GetArray())
    codes += entry["kind"].GetString() == std::string("code");
  EXPECT_GT(Entries(first.cache, "compile").size(), 2 * codes);
}

TEST_F(Tuned, ASecondBuildCompilesAndMeasuresNothing) {
  const TunedBuild& first = First();
  const Environment warm = {{"PREHEAT_CACHE_DIR", first.cache}};
  const auto records = Entries(first.cache, "tuning");
  const auto again = Preheat(BuildWords(File("")), warm);
  ExpectDone(again);
  EXPECT_THAT(again.out, HasSubstr(", 0 kernels compiled, "));
  EXPECT_THAT(again.out, HasSubstr(": tuning: 0.0000s"));
  EXPECT_THAT(again.out, Not(HasSubstr("captured")));

  // Without the finished programs every schedule is chosen anew: from the records, not by measuring.
  sys::RemoveTree(first.cache + "/v1/program");
  const auto rebuilt = Preheat(BuildWords(File(""), {"--dump", File("dump")}), warm);
  ExpectDone(rebuilt);
  EXPECT_THAT(rebuilt.out, HasSubstr("prefill_32 captured and lowered"));
  EXPECT_THAT(rebuilt.out, HasSubstr(", 0 kernels compiled, "));
  EXPECT_THAT(rebuilt.out, HasSubstr(": tuning: 0.0000s"));
  EXPECT_TRUE(Entries(first.cache, "tuning") == records);
  const std::string target =
      ParseJson(sys::ReadFile(File("tuned.json")))["runtime_fingerprint"]["targets"][0].GetString();
  const std::string reasons = sys::ReadFile(File("dump") + "/" + target + "/decode/schedules.txt");
  EXPECT_THAT(reasons, HasSubstr("measured earlier, kept in the store"));
  EXPECT_THAT(reasons, Not(HasSubstr(" ms in ")));
  const auto before = ParseJson(Preheat({"inspect", first.folder.File("tuned.bin"), "--json"}).out);
  const auto after = ParseJson(Preheat({"inspect", File("tuned.bin"), "--json"}).out);
  EXPECT_TRUE(before["entries"] == after["entries"]);
}

TEST_F(Tuned, ThePreloadedRunGivesTheSameTokens) {
  const TunedBuild& first = First();
  const auto result = PreheatRun(
      {"--model-id", TinyModel(), "--compile-mode", "max-autotune", "--compile-dynamic", "false",
       "--cache-path", first.folder.File("tuned.bin"), "--metadata-path", first.folder.File("tuned.json"),
       "--bucket-pad", "--prompt", kSum, "--print-ids", "--emit-json-metrics"},
      NoPrograms());
  ExpectDone(result);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, Not(HasSubstr("differs")));
  EXPECT_EQ(LineAfter(result.out, "ids: "), kSumIds);
  ExpectNothingCompiled(MetricsOf(result));
}

TEST_F(Tuned, BothLongPartsShowABarOnATerminal) {
  const TunedBuild& first = First();
  ExpectBarMoved(first.shown, "compiling");
  ExpectBarMoved(first.shown, "tuning");
  EXPECT_TRUE(first.shown.ends_with("\r\033[K")) << first.shown;  // it is gone when the build is done
  EXPECT_THAT(first.result.out, Not(HasSubstr("compiling [")));
}

TEST_F(Tuned, ARunThatMustCompileShowsABarUnlessToldNotTo) {
  const Words run = {"run",
                     "--model-id",
                     TinyModel(),
                     "--compile-mode",
                     "default",
                     "--no-load-artifacts",
                     "--metadata-path",
                     File("none.json"),
                     "--prompt",
                     kSum,
                     "--quiet"};
  std::string shown;
  auto result = OnTerminal(run, {}, shown);
  ExpectDone(result);
  EXPECT_EQ(shown, "");
  sys::RemoveTree(File("cache"));
  Words loud = run;
  loud.pop_back();
  ExpectDone(OnTerminal(loud, {{"TERM", "dumb"}}, shown));
  EXPECT_EQ(shown, "");
  sys::RemoveTree(File("cache"));
  result = OnTerminal(loud, {}, shown);
  ExpectDone(result);
  ExpectBarMoved(shown, "compiling");
  EXPECT_EQ(LineAfter(result.out, "[run] completion: "), kSumAnswer);
}

}  // namespace
}  // namespace preheat::testing
