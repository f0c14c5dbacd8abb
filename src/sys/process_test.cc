#include "sys/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <stdexcept>
#include <thread>

#include "base/error.h"
#include "sys/clock.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::sys {
namespace {

using base::Error;
using base::ErrorKind;
using testing::ElementsAre;

std::vector<std::string> Sh(const std::string& script) {
  return {"/bin/sh", "-c", script};
}

TEST(Spawn, BringsBackOutputAndExitCode) {
  const SpawnResult result = Spawn(Sh("echo out; echo err >&2; exit 3"));
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.Describe(), "exit code 3");
  EXPECT_GT(result.max_rss_bytes, 0);
}

TEST(Spawn, ArgumentsReachTheProgramUntouched) {
  const SpawnResult result = Spawn({"printf", "%s|", "a b", "$HOME", "*", ""});
  EXPECT_EQ(result.out, "a b|$HOME|*||");
}

TEST(Spawn, StdinIsTheBytesOrNothing) {
  SpawnOptions options;
  options.stdin_bytes = std::string(1 << 20, 'x');  // more than a pipe holds
  EXPECT_EQ(Spawn({"wc", "-c"}, options).out, "1048576\n");
  EXPECT_EQ(Spawn({"wc", "-c"}).out, "0\n");
  // A child that does not read it does not hurt us.
  EXPECT_TRUE(Spawn({"true"}, options).ok());
}

TEST(Spawn, MuchOutputOnBothStreamsDoesNotBlock) {
  const SpawnResult result = Spawn(Sh("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"));
  EXPECT_EQ(result.out.size(), 300000u);
  EXPECT_EQ(result.err.size(), 300000u);
}

TEST(Spawn, EnvironmentAndFolderAreTheChilds) {
  UniqueTempDir dir;
  SpawnOptions options;
  options.env = {{"PREHEAT_TEST_ONE", "1"}, {"HOME", std::nullopt}};
  options.cwd = dir.path();
  const SpawnResult result = Spawn(Sh("echo \"$PREHEAT_TEST_ONE ${HOME-none}\"; pwd -P"), options);
  EXPECT_THAT(result.out, testing::StartsWith("1 none\n"));
  EXPECT_THAT(result.out, testing::HasSubstr(dir.path().substr(dir.path().rfind('/'))));
}

TEST(Spawn, AMissingProgramIsNotFound) {
  try {
    Spawn({"preheat-no-such-program"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_THAT(error.message(), testing::HasSubstr("preheat-no-such-program"));
  }
}

TEST(Spawn, AFileWithoutTheRightToRunIsAccessDenied) {
  UniqueTempDir dir;
  WriteFileAtomic(dir.File("data"), std::string_view("x"));
  try {
    Spawn({dir.File("data")});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kAccessDenied);
  }
}

TEST(Spawn, AMissingFolderIsNamed) {
  SpawnOptions options;
  options.cwd = "/nowhere/at/all";
  try {
    Spawn({"true"}, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_THAT(error.message(), testing::HasSubstr("/nowhere/at/all"));
  }
}

TEST(Spawn, ASignalIsToldApartFromAnExitCode) {
  const SpawnResult result = Spawn(Sh("kill -TERM $$"));
  EXPECT_EQ(result.term_signal, SIGTERM);
  EXPECT_THAT(result.Describe(), testing::StartsWith("killed by signal 15"));
}

TEST(Spawn, TheTimeoutKillsChildrenOfTheChild) {
  SpawnOptions options;
  options.timeout_seconds = 0.2;
  const SpawnResult result = Spawn(Sh("sleep 60 & wait"), options);
  EXPECT_TRUE(result.timed_out);
  EXPECT_LT(result.wall_seconds, 30);
  EXPECT_THAT(result.Describe(), testing::StartsWith("timed out after"));
}

TEST(Spawn, AGrandchildThatKeepsThePipeDoesNotHoldUs) {
  SpawnOptions options;
  const SpawnResult result = Spawn(Sh("sleep 20 & echo $!"), options);
  EXPECT_LT(result.wall_seconds, 15);
  ::kill(std::stoi(result.out), SIGKILL);
}

TEST(Spawn, LinesComeWhileTheChildRuns) {
  std::vector<std::string> lines;
  double first_at = 0;
  SpawnOptions options;
  options.on_stdout_line = [&](std::string_view line) {
    if (lines.empty()) first_at = MonotonicSeconds();
    lines.emplace_back(line);
  };
  const SpawnResult result = Spawn(Sh("echo one; sleep 0.3; echo two; printf three"), options);
  EXPECT_THAT(lines, ElementsAre("one", "two", "three"));
  EXPECT_GT(MonotonicSeconds() - first_at, 0.25);
  EXPECT_EQ(result.out, "one\ntwo\nthree");
}

TEST(Spawn, AThrowingCallbackEndsTheChild) {
  SpawnOptions options;
  options.on_stdout_line = [](std::string_view) { throw std::runtime_error("stop"); };
  const double start = MonotonicSeconds();
  EXPECT_THROW(Spawn(Sh("echo one; sleep 60"), options), std::runtime_error);
  EXPECT_LT(MonotonicSeconds() - start, 30);
}

TEST(Spawn, CancelInterruptsTheChild) {
  std::atomic<bool> cancel{false};
  SpawnOptions options;
  options.cancel = &cancel;
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    cancel = true;
  });
  const SpawnResult result = Spawn({"sleep", "60"}, options);
  stopper.join();
  EXPECT_EQ(result.term_signal, SIGINT);
  EXPECT_FALSE(result.timed_out);
}

TEST(FindInPath, FindsExecutableFilesOnly) {
  EXPECT_TRUE(FindInPath("sh").has_value());
  EXPECT_EQ(FindInPath("/bin/sh"), "/bin/sh");
  EXPECT_FALSE(FindInPath("preheat-no-such-program").has_value());
  EXPECT_FALSE(FindInPath("/etc/passwd").has_value());
  EXPECT_FALSE(FindInPath("").has_value());
}

TEST(SelfPath, IsThisTest) {
  EXPECT_THAT(SelfPath(), testing::EndsWith("sys_test"));
}

}  // namespace
}  // namespace preheat::sys
