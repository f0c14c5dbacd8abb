// A terminal that a test reads: what a program shows on stderr to somebody who sits there.
#pragma once

#include <string>
#include <thread>

namespace preheat::testing {

class Terminal {
 public:
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // Open it for writing: a program's stderr.
  const std::string& path() const { return path_; }
  // All that was written. Call it once, when the program has ended.
  std::string Text();

 private:
  int master_ = -1;
  int held_ = -1;  // keeps the terminal alive while no program has it open
  std::string path_;
  std::string text_;
  std::thread reader_;
};

}  // namespace preheat::testing
