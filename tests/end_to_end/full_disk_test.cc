// Disks that are full or read-only: a cache is done without, results that cannot be written are an error that
// leaves what was there.
#include <algorithm>
#include <filesystem>

#include "end_to_end/end_to_end.h"
#include "end_to_end/small_disk.h"

namespace preheat::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class FullDisk : public EndToEnd {
 protected:
  void SetUp() override {
    if (const std::string reason = SmallDisk::WhyNot(); !reason.empty()) GTEST_SKIP() << "[SKIP] " << reason;
  }

  Words BuildWords(const std::string& artifact, const std::string& metadata) const {
    return {"build", "--model-id",   TinyModel(), "--compile-mode",  "default", "--prefill-lengths",
            "32",    "--cache-path", artifact,    "--metadata-path", metadata};
  }
  // Compiles unless a store helps.
  Words RunWords() const {
    return {"run",
            "--model-id",
            TinyModel(),
            "--compile-mode",
            "default",
            "--prompt",
            kSum,
            "--print-ids",
            "--no-load-artifacts",
            "--emit-json-metrics",
            "--metadata-path",
            File("none.json")};
  }
  // One line that names the folder, the reason, and that it is done without.
  static void ExpectSaidOnce(const sys::SpawnResult& result, const std::string& cache,
                             const std::string& reason) {
    ExpectDone(result);
    EXPECT_THAT(result.err, StartsWith("preheat: warning: cache folder " + cache + ": "));
    EXPECT_THAT(result.err, HasSubstr(reason));
    EXPECT_THAT(result.err, HasSubstr("going on without it"));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  static Words FilesBelow(const std::string& folder) {
    Words files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) files.push_back(entry.path().filename());
    }
    return files;
  }
};

TEST_F(FullDisk, ACacheFolderThatFillsUpIsSaidOnceAndDoneWithout) {
  const SmallDisk disk(uint64_t{48} << 10);  // about a third of what is to be kept
  const Environment cache = {{"PREHEAT_CACHE_DIR", disk.path()}};
  const auto build = Preheat(BuildWords(File("x.bin"), File("x.json")), cache);
  ExpectSaidOnce(build, disk.path(), "No space left on device (the disk is full)");
  EXPECT_EQ(sys::ReadFile(File("x.bin")), sys::ReadFile(Tiny().artifact));
  const Words kept = FilesBelow(disk.path());
  EXPECT_FALSE(kept.empty());
  for (const std::string& name : kept)
    EXPECT_EQ(name.size(), 64u) << name;  // whole names: nothing half-written

  // What did get in is whole: it is used without a word, the rest is compiled once more.
  const auto run = Preheat(RunWords(), cache);
  ExpectSaidOnce(run, disk.path(), "No space left on device (the disk is full)");
  EXPECT_EQ(LineAfter(run.out, "ids: "), kSumIds);
  const auto metrics = MetricsOf(run);
  EXPECT_GT(metrics["async_compile_miss"].GetInt64(), 0);
  EXPECT_GT(metrics["async_compile_hit"].GetInt64(), 0);
}

TEST_F(FullDisk, AReadOnlyCacheFolderIsSaidOnceAndDoneWithout) {
  SmallDisk disk(4096);
  disk.MakeReadOnly();
  const Environment cache = {{"PREHEAT_CACHE_DIR", disk.path()}};
  ExpectSaidOnce(Preheat(BuildWords(File("x.bin"), File("x.json")), cache), disk.path(),
                 "Read-only file system");
  EXPECT_EQ(sys::ReadFile(File("x.bin")), sys::ReadFile(Tiny().artifact));
  const auto run = Preheat(RunWords(), cache);
  ExpectSaidOnce(run, disk.path(), "Read-only file system");
  EXPECT_EQ(LineAfter(run.out, "ids: "), kSumIds);
  EXPECT_TRUE(sys::ListDir(disk.path()).empty());
}

TEST_F(FullDisk, AReadOnlyCacheFolderThatHoldsEverythingServesInSilence) {
  SmallDisk disk(uint64_t{8} << 20);
  std::filesystem::copy(Tiny().cache, disk.File("cache"), std::filesystem::copy_options::recursive);
  disk.MakeReadOnly();
  const auto run = Preheat(RunWords(), {{"PREHEAT_CACHE_DIR", disk.File("cache")}});
  ExpectDone(run);
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(LineAfter(run.out, "ids: "), kSumIds);
  ExpectNothingCompiled(MetricsOf(run));
}

TEST_F(FullDisk, AnArtifactThatFindsNoRoomLeavesTheOldOne) {
  const std::string old_artifact = sys::ReadFile(Tiny().artifact);
  const std::string old_metadata = sys::ReadFile(Tiny().metadata);
  const SmallDisk disk(old_artifact.size() * 3 / 2);
  sys::WriteFileAtomic(disk.File("x.bin"), old_artifact);
  sys::WriteFileAtomic(disk.File("x.json"), old_metadata);
  Words words = BuildWords(disk.File("x.bin"), disk.File("x.json"));
  words.insert(words.end(), {"--decode-length", "64"});
  const auto build = Preheat(words, WarmCache());
  ExpectError(build, 74,
              {"cannot write: " + disk.File("x.bin") + ": No space left on device (the disk is full)"});
  EXPECT_THAT(build.out, Not(HasSubstr("[build] wrote")));
  EXPECT_EQ(sys::ReadFile(disk.File("x.bin")), old_artifact);
  EXPECT_EQ(sys::ReadFile(disk.File("x.json")), old_metadata);
  EXPECT_THAT(sys::ListDir(disk.path()), ElementsAre("x.bin", "x.json"));
}

TEST_F(FullDisk, MetadataThatFindsNoRoomLeavesTheOldFile) {
  const std::string old_metadata = sys::ReadFile(Tiny().metadata);
  const SmallDisk disk(8192);
  sys::WriteFileAtomic(disk.File("x.json"), old_metadata);
  sys::WriteFileAtomic(disk.File("filler"), std::string(4096, 'x'));
  const auto build = Preheat(BuildWords(File("x.bin"), disk.File("x.json")), WarmCache());
  ExpectError(build, 74,
              {"cannot write: " + disk.File("x.json") + ": No space left on device (the disk is full)"});
  EXPECT_EQ(sys::ReadFile(disk.File("x.json")), old_metadata);
  EXPECT_THAT(sys::ListDir(disk.path()), ElementsAre("filler", "x.json"));
}

TEST_F(FullDisk, ASynthesizedModelThatFindsNoRoomIsAnErrorAndNotHalfThere) {
  const SmallDisk disk(uint64_t{1} << 20);
  const auto synth =
      Preheat({"synth", "--shape", TinyModel() + "/config.json", "--output", disk.File("model")});
  ExpectError(synth, 74, {disk.File("model") + ": needs 0.01", " GB, 0.001 GB are free; free some space"});
  EXPECT_EQ(FilesBelow(disk.path()), Words{});
}

TEST_F(FullDisk, LogitsThatFindNoRoomAreAnError) {
  const SmallDisk disk(4096);
  const auto logits = Preheat({"logits", "--model-id", TinyModel(), "--execution", "interpreter", "--prompt",
                               kSum, "--output", disk.File("x.safetensors")});
  ExpectError(logits, 74, {"x.safetensors: No space left on device (the disk is full)"});
  EXPECT_TRUE(sys::ListDir(disk.path()).empty());
}

}  // namespace
}  // namespace preheat::testing
