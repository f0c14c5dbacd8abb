#include "compile/making.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "base/error.h"

namespace preheat::compile {
namespace {

using Group = Making::Group;

// Compiles units one after the other, each when it is let through.
class GatedCompiler : public toolchain::Compiler {
 public:
  std::string Identity() const override { return "gated"; }
  std::string FlagsText(std::string_view) const override { return ""; }
  std::vector<toolchain::CompiledUnit> Compile(const std::vector<toolchain::Unit>& units,
                                               const toolchain::CompileOptions& options) const override {
    std::vector<toolchain::CompiledUnit> all;
    for (size_t i = 0; i < units.size(); ++i) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return open_.contains(units[i].source) || all_open_; });
      if (units[i].source == "bad") throw base::MakeError(base::ErrorKind::kToolFailed, "bad is bad");
      lock.unlock();
      std::vector<std::byte> image(units[i].source.size());
      std::memcpy(image.data(), units[i].source.data(), image.size());
      all.push_back({.name = units[i].name, .image = std::move(image)});
      options.on_compiled(i, all.back());
    }
    return all;
  }
  void Open(const std::string& source) {
    const std::lock_guard lock(mutex_);
    open_.insert(source);
    changed_.notify_all();
  }
  void OpenAll() {
    const std::lock_guard lock(mutex_);
    all_open_ = true;
    changed_.notify_all();
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::set<std::string> open_;
  bool all_open_ = false;
};

class MakingTest : public ::testing::Test {
 protected:
  std::string TextOf(const std::string& hash) {
    return std::string(store_.Get(store::EntryKind::kCode, hash).value().text());
  }

  GatedCompiler compiler_;
  store::Store store_ = store::Store::InMemory();
  CodeMaker code_{store_, "x86-64-v3", 1, &compiler_};
  std::atomic<int> told_ = 0;
  const std::function<void(const Source&)> count_ = [this](const Source&) { ++told_; };
};

TEST_F(MakingTest, WhatIsMadeIsThereWhileTheRestIsNot) {
  const std::vector<Source> sources = {{"a", "1"}, {"b", "2"}, {"c", "3"}, {"again", "1"}, {"d", "4"}};
  Making making(code_, sources, /*aside=*/true, count_);
  const std::vector<Group> groups = {{1, 2}, {0, 1}, {3, 1}};
  compiler_.Open("1");
  EXPECT_EQ(making.WaitForOne(groups), 1u);  // the first that is whole
  EXPECT_EQ(TextOf(making.HashOf(0)), "1");
  EXPECT_EQ(making.WaitForOne(std::vector<Group>{{3, 1}}), 0u);
  EXPECT_EQ(making.HashOf(3), making.HashOf(0)) << "equal texts are one unit";
  EXPECT_EQ(making.HashOf(1), "");
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    compiler_.Open("2");
    compiler_.Open("3");
  });
  EXPECT_EQ(making.WaitForOne(std::vector<Group>{{4, 1}, {1, 2}}), 1u);
  later.join();
  EXPECT_EQ(TextOf(making.HashOf(2)), "3");
  compiler_.OpenAll();
  making.Finish();
  EXPECT_EQ(TextOf(making.HashOf(4)), "4");
  EXPECT_EQ(told_, 5);
  EXPECT_EQ(code_.compiled(), 4);
}

TEST_F(MakingTest, WithNoThreadAsideAllIsMadeAtOnce) {
  compiler_.OpenAll();
  const std::vector<Source> sources = {{"a", "1"}, {"b", "2"}};
  Making making(code_, sources, /*aside=*/false, count_);
  EXPECT_EQ(told_, 2);
  EXPECT_EQ(making.WaitForOne(std::vector<Group>{{0, 2}}), 0u);
  EXPECT_EQ(TextOf(making.HashOf(1)), "2");
  making.Finish();
}

TEST_F(MakingTest, AFailureEndsWhoWaits) {
  compiler_.OpenAll();
  const std::vector<Source> sources = {{"a", "1"}, {"b", "bad"}, {"c", "3"}};
  Making making(code_, sources, /*aside=*/true, count_);
  EXPECT_THROW(making.WaitForOne(std::vector<Group>{{2, 1}}), base::Error);
  EXPECT_THROW(Making(code_, sources, /*aside=*/false, count_), base::Error);
}

// Who gives up waits for what is begun, and no longer.
TEST_F(MakingTest, CanBeLeftBeforeItsEnd) {
  const std::vector<Source> sources = {{"a", "1"}, {"b", "2"}};
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    compiler_.Open("1");
  });
  { Making making(code_, sources, /*aside=*/true, count_); }  // "2" is never let through
  EXPECT_EQ(told_, 1);
  later.join();
}

}  // namespace
}  // namespace preheat::compile
