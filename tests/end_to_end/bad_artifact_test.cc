// An artifact, a cache folder, a compiler that cannot be used: message and exit code.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "artifact/artifact.h"
#include "artifact/writer.h"
#include "end_to_end/end_to_end.h"
#include "store/key.h"

namespace preheat::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class BadArtifact : public EndToEnd {
 protected:
  Words RunOn(const std::string& artifact) const {
    return OnTiny("run", {"--prompt", kSum, "--max-new-tokens", "2", "--cache-path", artifact});
  }
  std::string Spoiled(const std::string& bytes) const {
    const std::string path = File("spoiled.bin");
    sys::WriteFileAtomic(path, std::string_view(bytes));
    return path;
  }
  std::string Script(const std::string& text) const {
    const std::string path = File("script");
    sys::WriteFileAtomic(path, std::string_view("#!/bin/sh\n" + text));
    ::chmod(path.c_str(), 0755);
    return path;
  }
};

TEST_F(BadArtifact, Missing) {
  ExpectError(Preheat(RunOn(File("none.bin"))), 66,
              {"none.bin: no such artifact; make it with `preheat build`"});
  ExpectError(Preheat({"inspect", File("none.bin")}), 66, {"no such artifact"});
  ExpectError(Preheat({"verify", File("none.bin")}), 66, {"no such artifact"});
  ExpectError(PreheatRun(OnTiny("", {"--cache-path", File("none.bin")})), 66, {"no such artifact"});
  ExpectError(
      Preheat(OnTiny("benchmark", {"--cache-path", File("none.bin"), "--single-mode", "compile_preload"})),
      66, {"no such artifact"});
  ExpectError(Preheat({"logits", "--model-id", TinyModel(), "--prompt", "x", "--output", File("l"),
                       "--cache-path", File("none.bin")}),
              66, {"no such artifact"});
}

TEST_F(BadArtifact, AnyFlippedByteIsFound) {
  const std::string good = sys::ReadFile(Tiny().artifact);
  for (const double place : {0.0, 0.1, 0.35, 0.5, 0.75, 0.999}) {
    std::string bytes = good;
    const auto at = static_cast<size_t>(place * static_cast<double>(bytes.size()));
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    const auto verify = Preheat({"verify", Spoiled(bytes)});
    ExpectError(verify, 65, {"spoiled.bin: "});
    EXPECT_EQ(verify.out, "") << at;
  }
  std::string bytes = good;
  bytes[bytes.size() / 2] ^= 1;
  const auto run = Preheat(RunOn(Spoiled(bytes)));
  ExpectError(run, 65, {"the artifact is damaged", "build or copy it again"});
  EXPECT_THAT(run.out, Not(HasSubstr("completion")));
}

TEST_F(BadArtifact, Cut) {
  const std::string good = sys::ReadFile(Tiny().artifact);
  ExpectError(Preheat(RunOn(Spoiled(good.substr(0, good.size() / 2)))), 65,
              {"the artifact is damaged", "expected"});
  ExpectError(Preheat(RunOn(Spoiled(good.substr(0, 10)))), 65, {"spoiled.bin"});
  ExpectError(Preheat(RunOn(Spoiled(""))), 65, {"spoiled.bin"});
  ExpectError(Preheat(RunOn(Spoiled("{\"not\": \"an artifact\"}"))), 65, {"no preheat artifact"});
}

TEST_F(BadArtifact, DamagedMetadata) {
  sys::WriteFileAtomic(File("m.json"), std::string_view("{\"compile\": 3}"));
  ExpectError(Preheat(OnTiny("run", {"--metadata-path", File("m.json")})), 65, {"m.json", "build"});
}

TEST_F(BadArtifact, OfAnotherModel) {
  const std::string other = CopyOfTiny();
  Edit(other + "/config.json", "\"rope_theta\": 500000.0", "\"rope_theta\": 10000.0");
  const Words words = {"--model-id", other};
  ExpectError(PreheatRun(OnTiny("", words)), 4,
              {"made for another model (tiny-instruct)", "build an artifact"});
  Words forbidding = OnTiny("run", words);
  forbidding.emplace_back("--forbid-compile");
  ExpectError(Preheat(forbidding), 4, {"made for another model"});
}

TEST_F(BadArtifact, OfAnotherMode) {
  const auto result = PreheatRun(OnTiny("", {"--prompt", kSum, "--compile-mode", "reduce-overhead"}));
  ExpectError(result, 3,
              {"would have to compile, which is forbidden", "mode: reduce-overhead here, default there"});
}

TEST_F(BadArtifact, OfALengthThatWasNotBuilt) {
  const auto result = Preheat(
      OnTiny("run", {"--prompt", kSum, "--compile-dynamic", "false", "--forbid-compile"}), NoPrograms());
  ExpectError(result, 3, {"prefill_9", "step: prefill_9 here"});
}

// Whatever CPU this is: what was built here, as a newer version would have labelled it for a newer CPU.
TEST_F(BadArtifact, OfACpuLevelThatIsNotThisMachines) {
  artifact::Artifact built = artifact::Artifact::Open(Tiny().artifact);
  artifact::Manifest manifest = built.manifest();
  manifest.purpose.targets = {"x86-64-v5"};
  artifact::ArtifactWriter writer(manifest);
  for (const artifact::ManifestEntry& entry : built.manifest().entries) {
    const auto bytes = built.Get(entry.kind, entry.name);
    const std::string target = entry.target.empty() ? "" : "x86-64-v5";
    if (entry.kind == store::EntryKind::kCode) {
      writer.AddCode(target, bytes->span());
      continue;
    }
    store::KeyBuilder key;
    for (const auto& [label, value] : entry.parts) key.Add(label, label == "target" ? target : value);
    writer.Add(entry.kind, key.Build(), target, bytes->span());
  }
  writer.WriteTo(File("v5.bin"));

  const auto mine = ParseJson(Preheat({"devices", "--json"}).out);
  const std::string best = mine["devices"][0]["targets"][0].GetString();
  const Words texts = {File("v5.bin") + ": made for x86-64-v5, but this processor (", ") runs " + best,
                       "; build with --targets " + best + "\n"};
  const Words words = {"--prompt", kSum, "--print-ids", "--cache-path", File("v5.bin")};
  Words forbidding = words;
  forbidding.emplace_back("--forbid-compile");
  ExpectError(PreheatRun(OnTiny("", words)), 4, texts);
  ExpectError(Preheat(OnTiny("run", forbidding)), 4, texts);
  const auto verify = Preheat({"verify", File("v5.bin")});
  EXPECT_EQ(verify.exit_code, 4);
  EXPECT_THAT(verify.out, HasSubstr("unusable: target: needs x86-64-v5, this machine runs " + best));
  EXPECT_THAT(verify.out, HasSubstr(File("v5.bin") + ": unusable\n"));
  // Where compiling is allowed, what does not fit is made.
  const auto run = Preheat(OnTiny("run", words), WarmCache());
  ExpectDone(run);
  EXPECT_EQ(LineAfter(run.out, "ids: "), kSumIds);
}

TEST_F(BadArtifact, OfAnotherCpu) {
  const auto devices = ParseJson(Preheat({"devices", "--json"}).out);
  const auto& mine = devices["devices"][0]["targets"];
  std::string foreign;
  for (const char* target : {"x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3"}) {
    bool known = false;
    for (const auto& name : mine.GetArray()) known |= name.GetString() == std::string(target);
    if (!known) foreign = target;
  }
  if (foreign.empty()) GTEST_SKIP() << "[SKIP] this CPU runs every target that can be built";
  ExpectDone(Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths",
                      "32", "--targets", foreign, "--cache-path", File("foreign.bin"), "--metadata-path",
                      File("f.json")}));
  ExpectError(
      PreheatRun(OnTiny("", {"--cache-path", File("foreign.bin"), "--metadata-path", File("f.json")})), 4,
      {"made for " + foreign, "build with --targets"});
  EXPECT_EQ(Preheat({"verify", File("foreign.bin")}).exit_code, 4);
}

TEST_F(BadArtifact, CannotBeWritten) {
  const auto build = [&](const std::string& artifact, const std::string& metadata) {
    return Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--prefill-lengths",
                    "32", "--cache-path", artifact, "--metadata-path", metadata},
                   WarmCache());
  };
  // A file where a folder should be; /proc, where even root makes none; a folder in the file's place.
  ExpectError(build(Tiny().metadata + "/x.bin", File("x.json")), 74, {"x.bin: cannot be written"});
  ExpectError(build("/proc/none/x.bin", File("x.json")), 74, {"/proc/none/x.bin: cannot be written"});
  ExpectError(build(File("x.bin"), Tiny().metadata + "/x.json"), 74, {"x.json: cannot be written"});
  sys::MakeDirs(File("folder"));
  ExpectError(build(File("folder"), File("x.json")), 74, {"is a folder"});
  if (::geteuid() == 0) return;  // whom no mode stops
  ::chmod(File("folder").c_str(), 0500);
  ExpectError(build(File("folder/x.bin"), File("x.json")), 77, {"x.bin: cannot be written"});
}

TEST_F(BadArtifact, OutputThatCannotBePrintedIsAnError) {
  if (!sys::Exists("/dev/full")) GTEST_SKIP() << "[SKIP] no /dev/full here";
  const auto result =
      Start("/bin/sh", {"-c", "exec \"$0\" \"$@\" > /dev/full", PREHEAT_BINARY, "devices"}, {});
  ExpectError(result, 74, {"writing to standard output failed"});
}

TEST_F(BadArtifact, NoCompilerSaysWhatToInstall) {
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--no-load-artifacts"}), NoPrograms());
  const Words texts = {"no C++ compiler found: looked for c++ g++ clang++; install g++ or set CXX"};
  ExpectError(result, 66, texts);
  const auto build = Preheat({"build", "--model-id", TinyModel(), "--compile-mode", "default", "--cache-path",
                              File("x.bin"), "--metadata-path", File("x.json")},
                             NoPrograms());
  ExpectError(build, 66, texts);
  EXPECT_FALSE(sys::Exists(File("x.bin")));
}

TEST_F(BadArtifact, ANamedCompilerThatIsNoneIsTold) {
  Environment environment = NoPrograms();
  environment.back() = {"CXX", "/bin/false"};
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--no-load-artifacts"}), environment);
  ExpectError(result, 66,
              {"warning: CXX: /bin/false: no x86-64 gcc or clang answers there",
               "looked for /bin/false c++ g++ clang++"});
}

TEST_F(BadArtifact, AFailingCompilersMessageIsShownAndTheSourceKept) {
  const std::string compiler = Script(
      "for word in \"$@\"; do\n"
      "  if [ \"$word\" = -v ]; then\n"
      "    echo 'Target: x86_64-linux-gnu' >&2; echo 'gcc version 99.0 (none)' >&2; exit 0\n"
      "  fi\n"
      "done\n"
      "echo 'fatal error: the compiler is out of breath' >&2; exit 1\n");
  const auto result = Preheat(OnTiny("run", {"--prompt", kSum, "--no-load-artifacts"}), {{"CXX", compiler}});
  ExpectError(result, 1, {"the compiler is out of breath", "the source was kept in " + File("tmp")});
}

TEST_F(BadArtifact, ACacheFolderThatCannotBeWrittenIsSaidAndDoneWithout) {
  const auto result =
      Preheat({"run", "--model-id", TinyModel(), "--compile-mode", "default", "--prompt", kSum,
               "--no-load-artifacts", "--metadata-path", File("none.json"), "--print-ids"},
              {{"PREHEAT_CACHE_DIR", Tiny().metadata}});
  ExpectDone(result);
  EXPECT_EQ(LineAfter(result.out, "ids: "), kSumIds);
  EXPECT_THAT(result.err, HasSubstr("warning: cache folder " + Tiny().metadata));
  EXPECT_THAT(result.err, HasSubstr("going on without it"));
}

}  // namespace
}  // namespace preheat::testing
