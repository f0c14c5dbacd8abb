#include "end_to_end/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>

namespace preheat::testing {

Terminal::Terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
  char name[64] = {};
  if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0 ||
      ::ptsname_r(master_, name, sizeof(name)) != 0) {
    ADD_FAILURE() << "no terminal can be made here: error " << errno;
    return;
  }
  path_ = name;
  held_ = ::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  // A terminal holds a few KB: who writes more waits for a reader.
  reader_ = std::thread([this] {
    char bytes[4096];
    for (ssize_t got; (got = ::read(master_, bytes, sizeof(bytes))) > 0;) {
      text_.append(bytes, static_cast<size_t>(got));
    }
  });
}

Terminal::~Terminal() {
  Text();
  if (master_ >= 0) ::close(master_);
}

std::string Terminal::Text() {
  // The last one that has it open: the reader comes to its end.
  if (held_ >= 0) ::close(held_);
  held_ = -1;
  if (reader_.joinable()) reader_.join();
  return text_;
}

}  // namespace preheat::testing
