#include "store/store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "base/hash.h"
#include "store/entry_file.h"
#include "sys/atomic_file.h"
#include "sys/crash_for_test.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::store {
namespace {

Key KeyOf(std::string_view target, std::string_view dtype = "bf16") {
  return KeyBuilder().Add("target", target).Add("dtype", dtype).Build();
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string PathOf(const Store& store, EntryKind kind, const std::string& name) {
  return fmt::format("{}/v1/{}/{}/{}", store.folder(), EntryKindName(kind), name.substr(0, 2), name);
}

void WriteRaw(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class StoreTest : public testing::Test {
 protected:
  sys::UniqueTempDir folder_{"store-test"};
  Store store_{folder_.File("cache")};
  const Key key_ = KeyOf("x86-64-v3");
};

TEST_F(StoreTest, GetGivesBackWhatWasPutAlsoInAnotherProcess) {
  store_.Put(EntryKind::kProgram, key_, "payload");
  EXPECT_EQ(store_.Get(EntryKind::kProgram, key_.name())->text(), "payload");
  Store other(store_.folder());
  EXPECT_EQ(other.Get(EntryKind::kProgram, key_.name())->text(), "payload");
}

TEST_F(StoreTest, AnEmptyPayloadIsAnEntry) {
  store_.Put(EntryKind::kTuning, key_, "");
  EXPECT_EQ(store_.Get(EntryKind::kTuning, key_.name())->text(), "");
}

TEST_F(StoreTest, KindsDoNotMix) {
  store_.Put(EntryKind::kProgram, key_, "payload");
  EXPECT_FALSE(store_.Get(EntryKind::kTuning, key_.name()));
}

TEST_F(StoreTest, CodeIsNamedByItsHash) {
  const std::string name = store_.PutCode(AsBytes("code"));
  EXPECT_EQ(name, base::Sha256Hex(std::string_view("code")));
  EXPECT_EQ(store_.Get(EntryKind::kCode, name)->text(), "code");
}

TEST_F(StoreTest, OpeningTouchesNothing) {
  EXPECT_FALSE(sys::Exists(store_.folder()));
}

TEST_F(StoreTest, CountersTellHitsMissesAndWrites) {
  store_.Get(EntryKind::kProgram, key_.name());
  store_.Put(EntryKind::kProgram, key_, "payload");
  store_.Get(EntryKind::kProgram, key_.name());
  store_.PutCode(AsBytes("code"));
  EXPECT_EQ(store_.counters(EntryKind::kProgram).hits, 1);
  EXPECT_EQ(store_.counters(EntryKind::kProgram).misses, 1);
  EXPECT_EQ(store_.counters(EntryKind::kProgram).writes, 1);
  EXPECT_EQ(store_.counters().writes, 2);
}

TEST_F(StoreTest, AMissIsExplainedByTheNearestEntry) {
  store_.Put(EntryKind::kProgram, KeyOf("x86-64-v4", "fp32"), "far");
  store_.Put(EntryKind::kProgram, KeyOf("x86-64-v3", "fp32"), "near");
  const auto nearest = FindNearest(store_, EntryKind::kProgram, key_);
  ASSERT_TRUE(nearest);
  EXPECT_EQ(DescribeDifferences(nearest->differences), "dtype: bf16 here, fp32 there");
  EXPECT_FALSE(FindNearest(store_, EntryKind::kTuning, key_));
}

TEST_F(StoreTest, EveryFlippedByteAndEveryCutIsAMissAndIsRemoved) {
  store_.Put(EntryKind::kProgram, key_, "payload");
  const std::string path = PathOf(store_, EntryKind::kProgram, key_.name());
  const std::string good = sys::ReadFile(path);
  int64_t damaged = 0;
  testing::internal::CaptureStderr();
  const auto expect_miss = [&](const std::string& bytes, size_t where) {
    WriteRaw(path, bytes);
    EXPECT_FALSE(store_.Get(EntryKind::kProgram, key_.name())) << where;
    EXPECT_FALSE(sys::Exists(path)) << where;
    EXPECT_EQ(store_.counters().damaged, ++damaged);
  };
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bytes = good;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x10);
    expect_miss(bytes, i);
    expect_miss(good.substr(0, i), i);
  }
  expect_miss(good + "x", good.size());
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("it is removed and made again"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  store_.Put(EntryKind::kProgram, key_, "payload");
  EXPECT_TRUE(store_.Get(EntryKind::kProgram, key_.name()));
}

TEST_F(StoreTest, AnEntryUnderAnotherNameIsDamage) {
  store_.Put(EntryKind::kProgram, key_, "payload");
  const Key other = KeyOf("x86-64-v4");
  const std::string path = PathOf(store_, EntryKind::kProgram, other.name());
  sys::MakeDirs(sys::ParentPath(path));
  sys::Rename(PathOf(store_, EntryKind::kProgram, key_.name()), path);
  EXPECT_FALSE(store_.Get(EntryKind::kProgram, other.name()));
  EXPECT_EQ(store_.counters().damaged, 1);
}

TEST_F(StoreTest, AFolderThatCannotBeWrittenIsSaidOnceAndMemoryStandsIn) {
  // A file where the folder should be: refused for root, too, unlike a read-only folder.
  WriteRaw(store_.folder(), "in the way");
  testing::internal::CaptureStderr();
  store_.Put(EntryKind::kProgram, key_, "payload");
  const std::string name = store_.PutCode(AsBytes("code"));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(store_.Get(EntryKind::kProgram, key_.name())->text(), "payload");
  EXPECT_EQ(store_.Get(EntryKind::kCode, name)->text(), "code");
  EXPECT_EQ(store_.List(EntryKind::kProgram).size(), 1u);
  EXPECT_NE(said.find("going on without it"), std::string::npos) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

TEST_F(StoreTest, AFolderThatTakesNoFilesIsSaidAndMemoryStandsIn) {
  // The entry's folder is a link to one that takes no files, whoever asks.
  const std::string path = PathOf(store_, EntryKind::kProgram, key_.name());
  sys::MakeDirs(sys::ParentPath(sys::ParentPath(path)));
  ASSERT_EQ(::symlink("/proc/self", sys::ParentPath(path).c_str()), 0);
  testing::internal::CaptureStderr();
  store_.Put(EntryKind::kProgram, key_, "payload");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("going on without it"), std::string::npos);
  EXPECT_EQ(store_.Get(EntryKind::kProgram, key_.name())->text(), "payload");
}

TEST_F(StoreTest, AStoreInMemoryLeavesNothingBehind) {
  Store memory = Store::InMemory();
  memory.Put(EntryKind::kProgram, key_, "payload");
  EXPECT_EQ(memory.Get(EntryKind::kProgram, key_.name())->text(), "payload");
  EXPECT_EQ(memory.Prune(0), 0u);
}

void SetAge(const std::string& path, int64_t seconds) {
  struct timespec times[2];
  ::clock_gettime(CLOCK_REALTIME, &times[0]);
  times[0].tv_sec -= seconds;
  times[1] = times[0];
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST_F(StoreTest, PruneKeepsWhatWasUsedLast) {
  const std::string oldest = store_.PutCode(AsBytes("aaaa"));
  const std::string used = store_.PutCode(AsBytes("bbbb"));
  const std::string newest = store_.PutCode(AsBytes("cccc"));
  SetAge(PathOf(store_, EntryKind::kCode, oldest), 100);
  SetAge(PathOf(store_, EntryKind::kCode, used), 200);
  SetAge(PathOf(store_, EntryKind::kCode, newest), 50);
  store_.Get(EntryKind::kCode, used);  // now the most recently used
  const uint64_t one = kEntryHeaderSize + 4;
  EXPECT_EQ(store_.Prune(2 * one), one);
  EXPECT_FALSE(store_.Get(EntryKind::kCode, oldest));
  EXPECT_TRUE(store_.Get(EntryKind::kCode, used));
  EXPECT_TRUE(store_.Get(EntryKind::kCode, newest));
  EXPECT_EQ(store_.Prune(0), 2 * one);
}

TEST_F(StoreTest, PruneRemovesTemporaryFilesOfTheDeadOnly) {
  const std::string name = store_.PutCode(AsBytes("aaaa"));
  const std::string path = PathOf(store_, EntryKind::kCode, name);
  const std::string dead = path + ".tmp-0123456789abcdef-0";
  WriteRaw(dead, "dead");
  sys::AtomicFile alive(path);
  EXPECT_FALSE(sys::Exists(dead));  // the next writer of the same entry clears up, too
  WriteRaw(dead, "dead");
  EXPECT_EQ(store_.Prune(1 << 20), 4u);
  EXPECT_FALSE(sys::Exists(dead));
  EXPECT_TRUE(sys::Exists(alive.temporary_path()));
  EXPECT_TRUE(store_.Get(EntryKind::kCode, name));
}

TEST_F(StoreTest, ThreadsMayReadAndWriteOneKey) {
  const std::string one(20000, '1');
  const std::string two(30000, '2');
  store_.Put(EntryKind::kTuning, key_, one);
  std::vector<std::thread> threads;
  for (const std::string* payload : {&one, &two}) {
    threads.emplace_back([this, payload] {
      for (int i = 0; i < 50; ++i) store_.Put(EntryKind::kTuning, key_, *payload);
    });
  }
  for (int i = 0; i < 50; ++i) {
    const auto bytes = store_.Get(EntryKind::kTuning, key_.name());
    EXPECT_TRUE(bytes && (bytes->text() == one || bytes->text() == two));
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_.counters().damaged, 0);
}

// Writers are killed at random moments while readers look on: they see the old entry or the new one.
TEST_F(StoreTest, AKilledWriterLeavesOldOrNewNeverHalf) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  const std::string payloads[] = {std::string(50000, 'a'), std::string(150000, 'b')};
  for (int round = 0; round < 30; ++round) {
    std::vector<pid_t> children;
    for (int child = 0; child < 2; ++child) {
      const pid_t pid = ::fork();
      ASSERT_GE(pid, 0);
      if (pid == 0) {
        Store writer(store_.folder());
        for (int i = child;; ++i) writer.Put(EntryKind::kProgram, key_, payloads[i % 2]);
      }
      children.push_back(pid);
    }
    ::usleep(random() % 4000);
    for (const pid_t pid : children) {
      ::kill(pid, SIGKILL);
      int status = 0;
      ::waitpid(pid, &status, 0);
      EXPECT_TRUE(WIFSIGNALED(status));
      Store reader(store_.folder());
      const auto bytes = reader.Get(EntryKind::kProgram, key_.name());
      EXPECT_TRUE(!bytes || bytes->text() == payloads[0] || bytes->text() == payloads[1]);
      EXPECT_EQ(reader.counters().damaged, 0);
    }
  }
  EXPECT_TRUE(store_.Get(EntryKind::kProgram, key_.name()));
}

// The same, systematically: before each operation of one write.
TEST_F(StoreTest, AKillBeforeAnyOperationLeavesOldOrNewAndNothingPilesUp) {
  if (!sys::CanTrace()) GTEST_SKIP() << "[SKIP] processes may not be traced here";
  const std::string path = PathOf(store_, EntryKind::kProgram, key_.name());
  int number = 1;
  for (bool replaces : {false, true}) {
    SCOPED_TRACE(replaces ? "replacing" : "the first entry");
    for (number = 1;; ++number) {
      sys::RemoveTree(store_.folder());
      if (replaces) Store(store_.folder()).Put(EntryKind::kProgram, key_, "old");
      const sys::Crash crash = sys::CrashBefore(
          number, folder_.path(), [&] { Store(store_.folder()).Put(EntryKind::kProgram, key_, "new"); });
      Store reader(store_.folder());
      const auto left = reader.Get(EntryKind::kProgram, key_.name());
      EXPECT_TRUE(left ? left->text() == "new" || (replaces && left->text() == "old") : !replaces) << number;
      EXPECT_EQ(reader.counters().damaged, 0) << number;
      reader.Put(EntryKind::kProgram, key_, "next");
      EXPECT_EQ(Store(store_.folder()).Get(EntryKind::kProgram, key_.name())->text(), "next");
      EXPECT_EQ(sys::ListDir(sys::ParentPath(path)).size(), 1u) << number;
      if (crash.operation) continue;
      EXPECT_TRUE(crash.EndedWell());
      break;
    }
    // create, lock, two writes, rename; the first entry makes four folders before.
    EXPECT_GE(number - 1, replaces ? 5 : 9);
  }
}

TEST(StoreFolder, FollowsTheEnvironment) {
  ::setenv("PREHEAT_CACHE_DIR", "/a/b", 1);
  EXPECT_EQ(Store::DefaultFolder(), "/a/b");
  ::unsetenv("PREHEAT_CACHE_DIR");
  ::setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(Store::DefaultFolder(), "/x/preheat");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(Store::DefaultFolder(), "/home/someone/.cache/preheat");
}

TEST(SourceChain, TheFirstThatHasItAnswers) {
  Store first = Store::InMemory();
  Store second = Store::InMemory();
  const Key both = KeyOf("a");
  const Key only_second = KeyOf("b");
  first.Put(EntryKind::kProgram, both, "first");
  second.Put(EntryKind::kProgram, both, "second");
  second.Put(EntryKind::kProgram, only_second, "more");
  SourceChain chain({&first, &second});
  EXPECT_EQ(chain.Get(EntryKind::kProgram, both.name())->text(), "first");
  EXPECT_EQ(chain.Get(EntryKind::kProgram, only_second.name())->text(), "more");
  EXPECT_FALSE(chain.Get(EntryKind::kProgram, KeyOf("c").name()));
  EXPECT_EQ(chain.List(EntryKind::kProgram).size(), 2u);
}

TEST(EntryBytes, MovingKeepsThemValid) {
  EntryBytes bytes = EntryBytes::OwnPart(std::vector<std::byte>(5, std::byte{'x'}), 2);
  const EntryBytes moved = std::move(bytes);
  EXPECT_EQ(moved.text(), "xxx");
}

TEST(EntryKind, NamesParseBack) {
  for (int i = 0; i < kEntryKinds; ++i) {
    const auto kind = static_cast<EntryKind>(i);
    EXPECT_EQ(ParseEntryKind(EntryKindName(kind)), kind);
  }
  EXPECT_FALSE(ParseEntryKind("cubin"));
}

}  // namespace
}  // namespace preheat::store
