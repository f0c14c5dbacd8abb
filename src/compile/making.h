// Code that is made on other threads while the caller already uses what is there.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <future>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "compile/code_maker.h"

namespace preheat::compile {

class Making {
 public:
  // So many sources, from one on, that are used together.
  struct Group {
    size_t first = 0;
    size_t count = 0;
  };

  // Starts to make the sources' code; `code` and `sources` outlive this, and `code` is left alone meanwhile.
  // Where not `aside`, returns when all is made; errors then as CodeMaker::Make. `made` is called for each
  // source, from any thread, one call at a time; aside, it alone shows progress.
  Making(CodeMaker& code, std::span<const Source> sources, bool aside,
         std::function<void(const Source&)> made);
  ~Making();  // what is not begun is not made; waits for what is
  Making(const Making&) = delete;
  Making& operator=(const Making&) = delete;

  // Waits until all of one of the groups is made, and returns which. REQUIRES: there is a group. Errors: what
  // making threw, as soon as it has.
  size_t WaitForOne(std::span<const Group> groups);
  // Of a source that WaitForOne has waited for.
  std::string HashOf(size_t source);
  // Waits for all. Errors: what making threw.
  void Finish();

 private:
  bool IsMade(const Group& group) const;  // REQUIRES: the lock

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> hashes_;  // by source; empty: not made yet
  bool failed_ = false, abandoned_ = false;
  std::future<void> making_;
};

}  // namespace preheat::compile
