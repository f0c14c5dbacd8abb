// kill -9 while building: before each operation on the artifact and its metadata, and here and there in the
// store.
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "end_to_end/end_to_end.h"
#include "sys/crash_for_test.h"

namespace preheat::testing {
namespace {

using ::testing::ElementsAre;

class Killed : public EndToEnd {
 protected:
  void SetUp() override {
    if (!sys::CanTrace()) GTEST_SKIP() << "[SKIP] processes may not be traced here";
    sys::MakeDirs(File("out"));
    sys::MakeDirs(File("cold"));
  }

  std::string Artifact() const { return File("out/x.bin"); }
  std::string Metadata() const { return File("out/x.json"); }
  Words BuildWords(const Words& more = {}) const {
    Words words = {"build", "--model-id",   TinyModel(), "--compile-mode",  "default", "--prefill-lengths",
                   "32",    "--cache-path", Artifact(),  "--metadata-path", Metadata()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static int64_t KernelsCompiled(const sys::SpawnResult& build) {
    const size_t end = build.out.find(" kernels compiled");
    if (end == std::string::npos) {
      ADD_FAILURE() << build.Describe() << "\n" << build.out << build.err;
      return -1;
    }
    return std::atoll(build.out.c_str() + build.out.rfind(' ', end - 1) + 1);
  }

  // `preheat WORDS`, killed before its operation `number` on files below `folder`.
  sys::Crash KillBuild(int number, const std::string& folder, const std::string& cache,
                       const Words& words) const {
    return sys::CrashBefore(number, folder, [&] {
      ::setenv("PREHEAT_CACHE_DIR", cache.c_str(), 1);
      ::setenv("TMPDIR", File("").c_str(), 1);
      ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // which cannot be done to a traced process
      const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      ::dup2(nowhere, STDOUT_FILENO);
      std::vector<char*> argv = {const_cast<char*>(PREHEAT_BINARY)};
      for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      ::execv(PREHEAT_BINARY, argv.data());
      ::_exit(127);
    });
  }

  static std::vector<std::string> TemporaryFiles(const std::string& folder) {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.path().string().find(".tmp-") != std::string::npos) found.push_back(entry.path());
    }
    return found;
  }
};

TEST_F(Killed, ArtifactAndMetadataAreOldOrNewNeverHalf) {
  // The same programs, all found in the store: a build takes some 50 ms and its files differ.
  const Words old_words = BuildWords();
  const Words new_words = BuildWords({"--decode-length", "64"});
  ExpectDone(Preheat(new_words, WarmCache()));
  const std::string new_artifact = sys::ReadFile(Artifact());
  ExpectDone(Preheat(old_words, WarmCache()));
  const std::string old_artifact = sys::ReadFile(Artifact());
  const std::string old_metadata = sys::ReadFile(Metadata());
  ASSERT_NE(old_artifact, new_artifact);

  std::vector<std::string> calls;
  for (int number = 1;; ++number) {
    SCOPED_TRACE(fmt::format("kill {}", number));
    sys::WriteFileAtomic(Artifact(), old_artifact);
    sys::WriteFileAtomic(Metadata(), old_metadata);
    const sys::Crash crash = KillBuild(number, File("out"), Tiny().cache, new_words);
    const std::string artifact = sys::ReadFile(Artifact());
    const std::string metadata = sys::ReadFile(Metadata());
    EXPECT_TRUE(artifact == old_artifact || artifact == new_artifact) << artifact.size();
    if (metadata != old_metadata) {
      // Written last, and with the time of writing in it.
      EXPECT_EQ(artifact, new_artifact);
      EXPECT_EQ(ParseJson(metadata)["warmup"]["decode_length"].GetInt64(), 64);
    }
    EXPECT_LE(TemporaryFiles(File("out")).size(), 1u);
    ExpectDone(Preheat(new_words, WarmCache()));
    EXPECT_EQ(sys::ReadFile(Artifact()), new_artifact);
    EXPECT_THAT(sys::ListDir(File("out")), ElementsAre("x.bin", "x.json"));
    if (!crash.operation) {
      EXPECT_TRUE(crash.EndedWell());
      break;
    }
    calls.push_back(crash.operation->call);
  }
  EXPECT_THAT(calls, ElementsAre("create", "lock", "write", "sync", "rename", "sync",  //
                                 "create", "lock", "write", "sync", "rename", "sync"));
}

TEST_F(Killed, AFirstBuildLeavesNoArtifactOrAWholeOne) {
  const std::string whole = [&] {
    ExpectDone(Preheat(BuildWords(), WarmCache()));
    return sys::ReadFile(Artifact());
  }();
  for (const char* call : {"write", "sync", "rename"}) {
    SCOPED_TRACE(call);
    sys::RemoveTree(File("out"));
    sys::MakeDirs(File("out"));
    int number = 1;
    while (true) {
      const sys::Crash crash = KillBuild(number, File("out"), Tiny().cache, BuildWords());
      ASSERT_TRUE(crash.operation);
      if (crash.operation->call == call) break;
      ++number;
    }
    EXPECT_FALSE(sys::Exists(Artifact()));
    EXPECT_FALSE(sys::Exists(Metadata()));
    ExpectError(PreheatRun({"--model-id", TinyModel(), "--cache-path", Artifact()}), 66,
                {"no such artifact"});
    ExpectDone(Preheat(BuildWords(), WarmCache()));
    EXPECT_EQ(sys::ReadFile(Artifact()), whole);
    EXPECT_THAT(sys::ListDir(File("out")), ElementsAre("x.bin", "x.json"));
  }
}

TEST_F(Killed, TheNextBuildGoesOnFromWhatTheStoreHolds) {
  const int64_t all = KernelsCompiled(Tiny().build);
  // Its first folder, the middle of its first entry, and some entries later (a unit is a dozen operations).
  for (int number : {1, 9, 40}) {
    SCOPED_TRACE(fmt::format("kill {}", number));
    sys::RemoveTree(File("cold"));
    sys::MakeDirs(File("cold"));
    const sys::Crash crash = KillBuild(number, File("cold"), File("cold"), BuildWords());
    ASSERT_TRUE(crash.operation);
    EXPECT_FALSE(sys::Exists(Artifact()));
    const auto next = Preheat(BuildWords(), {{"PREHEAT_CACHE_DIR", File("cold")}});
    ExpectDone(next);
    EXPECT_EQ(next.err, "");  // nothing in it was damaged
    EXPECT_LE(KernelsCompiled(next), all - number / 20);
    EXPECT_THAT(TemporaryFiles(File("cold")), ElementsAre());
    ExpectDone(Preheat({"verify", Artifact(), "--model-id", TinyModel()}));
    sys::RemoveFile(Artifact());
  }
}

}  // namespace
}  // namespace preheat::testing
