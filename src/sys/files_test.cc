#include "sys/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

#include "base/error_for_test.h"
#include "sys/env.h"
#include "sys/mapped_file.h"
#include "sys/os_error.h"

namespace preheat::sys {
namespace {

using base::Error;
using base::ErrorKind;
using base::Thrown;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(OsError, TellsApartWhatAUserWouldDo) {
  EXPECT_EQ(OsError(ENOENT, "cannot open", "a").kind(), ErrorKind::kNotFound);
  EXPECT_EQ(OsError(EROFS, "cannot create", "a").kind(), ErrorKind::kAccessDenied);
  EXPECT_EQ(OsError(EACCES, "cannot create", "a").kind(), ErrorKind::kAccessDenied);
  EXPECT_EQ(OsError(ENOSPC, "cannot write", "a").kind(), ErrorKind::kIo);
  EXPECT_THAT(OsError(ENOSPC, "cannot write", "/x/a").message(),
              HasSubstr("cannot write: /x/a: No space left on device (the disk is full)"));
}

TEST(Files, WritesAndReadsBack) {
  UniqueTempDir dir;
  const std::string path = dir.File("a.txt");
  const std::string text("one\0two", 7);
  WriteFileAtomic(path, text);
  EXPECT_EQ(ReadFile(path), text);
  WriteFileAtomic(path, std::string_view("new"));
  EXPECT_EQ(ReadFile(path), "new");
  EXPECT_THAT(ListDir(dir.path()), ElementsAre("a.txt"));
  EXPECT_EQ(GetFileInfo(path)->size_bytes, 3u);
  EXPECT_TRUE(GetFileInfo(path)->is_file);
  EXPECT_FALSE(GetFileInfo(dir.File("none")).has_value());
}

TEST(Files, ReadsFilesWhoseSizeTheSystemDoesNotTell) {
  EXPECT_FALSE(ReadFile("/proc/self/status").empty());
}

TEST(Files, MissingFileNamesItself) {
  const Error error = Thrown([] { ReadFile("/nowhere/at/all"); });
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("/nowhere/at/all: No such file"));
}

TEST(Files, AFolderIsNoFile) {
  UniqueTempDir dir;
  EXPECT_EQ(Thrown([&] { ReadFile(dir.path()); }).kind(), ErrorKind::kIo);
  EXPECT_EQ(Thrown([&] { MappedFile::Open(dir.path()); }).kind(), ErrorKind::kIo);
}

TEST(Files, FilesOverTheLimitAreRefused) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("big"), std::string(100, 'x'));
  EXPECT_EQ(ReadFile(dir.File("big"), 100).size(), 100u);
  EXPECT_EQ(Thrown([&] { ReadFile(dir.File("big"), 99); }).kind(), ErrorKind::kCorrupt);
}

TEST(SizedFile, TakesPiecesInAnyOrder) {
  UniqueTempDir dir;
  SizedFile file(dir.File("a"), 6);
  file.WriteAt(3, std::as_bytes(std::span("def", 3)));
  file.WriteAt(0, std::as_bytes(std::span("abc", 3)));
  file.Close();
  EXPECT_EQ(ReadFile(dir.File("a")), "abcdef");
}

TEST(SizedFile, DoesNotReplace) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string_view("keep"));
  Thrown([&] { SizedFile file(dir.File("a"), 10); });
  EXPECT_EQ(ReadFile(dir.File("a")), "keep");
}

TEST(SizedFile, SpaceThatIsNotThereIsTold) {
  UniqueTempDir dir;
  const uint64_t wanted = DiskFree(dir.path()) + (uint64_t{1} << 40);
  const Error error = Thrown([&] { SizedFile file(dir.File("a"), wanted); });
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_THAT(error.message(), HasSubstr("the disk is full"));
  EXPECT_FALSE(Exists(dir.File("a")));
}

TEST(Folders, AreMadeAndRemovedWhole) {
  UniqueTempDir dir;
  MakeDirs(dir.File("a/b/c"));
  MakeDirs(dir.File("a/b/c"));
  WriteFileAtomic(dir.File("a/b/f"), std::string_view("x"));
  RemoveTree(dir.File("a"));
  EXPECT_FALSE(Exists(dir.File("a")));
  RemoveTree(dir.File("a"));
  RemoveFile(dir.File("a"));
}

TEST(Folders, RemovingDoesNotFollowLinks) {
  UniqueTempDir dir;
  MakeDirs(dir.File("kept"));
  WriteFileAtomic(dir.File("kept/f"), std::string_view("x"));
  MakeDirs(dir.File("a"));
  ASSERT_EQ(::symlink(dir.File("kept").c_str(), dir.File("a/link").c_str()), 0);
  RemoveTree(dir.File("a"));
  EXPECT_TRUE(Exists(dir.File("kept/f")));
}

TEST(Folders, AFileInTheWayIsAnError) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string_view("x"));
  EXPECT_NO_THROW(MakeDirs(dir.path()));
  Thrown([&] { MakeDirs(dir.File("a")); });
  Thrown([&] { MakeDirs(dir.File("a/b")); });
}

TEST(Folders, DiskFreeLooksAtTheNearestParent) {
  UniqueTempDir dir;
  EXPECT_GT(DiskFree(dir.File("not/yet/there")), 0u);
}

TEST(Paths, JoinAndParent) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(ParentPath("a/b"), "a");
  EXPECT_EQ(ParentPath("a"), ".");
  EXPECT_EQ(ParentPath("/a"), "/");
  EXPECT_EQ(ParentPath("/a/b/"), "/a");
}

TEST(MappedFile, ShowsTheBytesAndMoves) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string_view("hello"));
  MappedFile file = MappedFile::Open(dir.File("a"));
  const std::byte* address = file.bytes().data();
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().data(), address);
  EXPECT_EQ(moved.size(), 5u);
  EXPECT_EQ(static_cast<char>(moved.bytes()[1]), 'e');
  EXPECT_EQ(file.size(), 0u);
  for (const Advice advice : {Advice::kWillNeed, Advice::kSequential, Advice::kRandom, Advice::kPopulate}) {
    moved.Advise(advice);
  }
  EXPECT_EQ(moved.path(), dir.File("a"));
}

TEST(MappedFile, AnOldMappingOutlivesTheFilesReplacement) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string_view("old"));
  const MappedFile file = MappedFile::Open(dir.File("a"));
  WriteFileAtomic(dir.File("a"), std::string_view("x"));
  EXPECT_EQ(static_cast<char>(file.bytes()[2]), 'd');
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string_view());
  const MappedFile file = MappedFile::Open(dir.File("a"));
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(ResidentFraction(file.bytes()), 1.0);
}

TEST(MappedFile, MissingFileIsNotFound) {
  const Error error = Thrown([] { MappedFile::Open("/nowhere/x.safetensors"); });
  EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
  EXPECT_THAT(error.message(), HasSubstr("/nowhere/x.safetensors"));
}

TEST(MappedFile, AFreshlyWrittenFileIsResident) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string(100'000, 'x'));
  const MappedFile file = MappedFile::Open(dir.File("a"));
  EXPECT_EQ(ResidentFraction(file.bytes()), 1.0);
  EXPECT_EQ(ResidentFraction(file.bytes().subspan(5000, 1)), 1.0);
}

TEST(MappedFile, ResidencyOfALargeFileIsSampled) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("a"), std::string(20 << 20, 'x'));
  const MappedFile file = MappedFile::Open(dir.File("a"));
  file.Advise(Advice::kPopulate);
  EXPECT_GT(ResidentFraction(file.bytes()), 0.99);
}

}  // namespace
}  // namespace preheat::sys
