#include "sys/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "base/error_for_test.h"
#include "sys/crash_for_test.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::sys {
namespace {

using base::Error;
using base::ErrorKind;
using base::Thrown;
using testing::ElementsAre;

TEST(AtomicFile, WithoutCommitTheOldFileStays) {
  UniqueTempDir dir;
  const std::string path = dir.File("a");
  WriteFileAtomic(path, std::string_view("old"));
  {
    AtomicFile file(path);
    file.Write(std::string_view("half of the new"));
    EXPECT_EQ(ReadFile(path), "old");
    EXPECT_TRUE(Exists(file.temporary_path()));
  }
  EXPECT_EQ(ReadFile(path), "old");
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("a"));
}

TEST(AtomicFile, ManyWritersLeaveOneWholeFile) {
  UniqueTempDir dir;
  const std::string path = dir.File("a");
  std::vector<std::thread> threads;
  for (char letter : {'a', 'b', 'c', 'd'}) {
    threads.emplace_back([&path, letter] {
      for (int i = 0; i < 20; ++i) WriteFileAtomic(path, std::string(5000, letter));
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string text = ReadFile(path);
  EXPECT_EQ(text, std::string(5000, text[0]));
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("a"));
}

TEST(AtomicFile, ARenameThatFailsLeavesNothing) {
  UniqueTempDir dir;
  MakeDirs(dir.File("taken/inside"));
  EXPECT_EQ(Thrown([&] { WriteFileAtomic(dir.File("taken"), std::string_view("x")); }).kind(),
            ErrorKind::kIo);
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("taken"));
}

TEST(AtomicFile, AMissingFolderIsNotFound) {
  UniqueTempDir dir;
  EXPECT_EQ(Thrown([&] { AtomicFile file(dir.File("no/file")); }).kind(), ErrorKind::kNotFound);
}

TEST(AtomicFile, AReadOnlyFolderIsAccessDenied) {
  if (::geteuid() == 0) GTEST_SKIP() << "[SKIP] root may write everywhere";
  UniqueTempDir dir;
  ::chmod(dir.path().c_str(), 0500);
  EXPECT_EQ(Thrown([&] { AtomicFile file(dir.File("a")); }).kind(), ErrorKind::kAccessDenied);
  ::chmod(dir.path().c_str(), 0700);
}

TEST(AtomicFile, AKillBeforeAnyOperationLeavesOldOrNewAndNothingPilesUp) {
  if (!CanTrace()) GTEST_SKIP() << "[SKIP] processes may not be traced here";
  UniqueTempDir dir;
  const std::string path = dir.File("a");
  const std::string old_text(70'000, 'o');
  const std::string new_text(300'000, 'n');
  std::vector<std::string> calls;
  size_t found_new = 0;
  for (int number = 1;; ++number) {
    WriteFileAtomic(path, old_text);
    EXPECT_THAT(ListDir(dir.path()), ElementsAre("a")) << "after " << number - 1 << " kills";
    const Crash crash = CrashBefore(number, dir.path(), [&] { WriteFileAtomic(path, new_text); });
    const std::string left = ReadFile(path);
    EXPECT_TRUE(left == old_text || left == new_text) << number << ": " << left.size();
    found_new += left == new_text;
    if (!crash.operation) {
      EXPECT_TRUE(crash.EndedWell());
      break;
    }
    calls.push_back(crash.operation->call);
  }
  EXPECT_THAT(calls, ElementsAre("create", "lock", "write", "sync", "rename", "sync"));
  EXPECT_EQ(found_new, 2u);  // after the rename, and at the end
}

TEST(AtomicFile, WhatIsBeingWrittenIsNotTakenForAbandoned) {
  UniqueTempDir dir;
  AtomicFile first(dir.File("a"));
  first.Write(std::string_view("first"));
  AtomicFile second(dir.File("a"));
  second.Write(std::string_view("second"));
  EXPECT_EQ(RemoveAbandonedFiles(dir.path()), 0u);
  second.Commit();
  first.Commit(Sync::kNone);
  EXPECT_EQ(ReadFile(dir.File("a")), "first");
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("a"));
}

TEST(AtomicFile, OnlyAbandonedFilesOfItsNameGo) {
  UniqueTempDir dir;
  const std::string left = ".tmp-0123456789abcdef-7";
  for (const char* name : {"a.tmp-notes", "a.tmp-0123456789abcdef-", "a.tmp-0123456789abcdeg-1"}) {
    WriteFileAtomic(dir.File(name), std::string_view("the user's own"));
  }
  WriteFileAtomic(dir.File("a" + left), std::string_view("dead"));
  WriteFileAtomic(dir.File("ba" + left), std::string_view("of another"));
  ASSERT_EQ(::symlink(dir.File("a.tmp-notes").c_str(), dir.File("a.tmp-0123456789abcdef-8").c_str()), 0);
  AtomicFile file(dir.File("a"));
  file.Commit();
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("a", "a.tmp-0123456789abcdef-", "a.tmp-0123456789abcdef-8",
                                               "a.tmp-0123456789abcdeg-1", "a.tmp-notes", "ba" + left));
  EXPECT_EQ(RemoveAbandonedFiles(dir.path()), 10u);
  EXPECT_FALSE(Exists(dir.File("ba" + left)));
  EXPECT_EQ(ReadFile(dir.File("a.tmp-notes")), "the user's own");
  EXPECT_EQ(RemoveAbandonedFiles(dir.File("no folder")), 0u);
}

}  // namespace
}  // namespace preheat::sys
