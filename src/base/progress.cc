#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace preheat::base {
namespace {

std::mutex draw_mutex;
bool line_on_screen = false;

constexpr int kBarCells = 28;
constexpr int64_t kRedrawMs = 80;  // a dozen redraws a second look smooth and cost nothing

}  // namespace

bool ProgressWanted() {
  const char* term = std::getenv("TERM");
  const bool dumb = term != nullptr && std::string_view(term) == "dumb";
  return isatty(STDERR_FILENO) != 0 && !dumb && log_level() != LogLevel::kQuiet;
}

void HideProgressLine() {
  std::lock_guard lock(draw_mutex);
  if (!line_on_screen) return;
  std::fputs("\r\033[K", stderr);
  line_on_screen = false;
}

Progress::Progress(std::string label, int64_t total)
    : label_(std::move(label)),
      total_(total),
      visible_(ProgressWanted()),
      start_(std::chrono::steady_clock::now()) {
  CHECK(total_ > 0);
  Draw();
}

Progress::~Progress() {
  if (visible_) HideProgressLine();
}

void Progress::Advance(int64_t units) {
  done_ += units;
  Draw();
}

void Progress::SetNote(std::string note) {
  {
    std::lock_guard lock(draw_mutex);
    note_ = std::move(note);
  }
  Draw();
}

void Progress::Draw() {
  if (!visible_) return;
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  const int64_t now_ms = std::chrono::duration_cast<std::chrono::milliseconds>(elapsed).count();
  if (now_ms - last_draw_ms_ < kRedrawMs) return;
  last_draw_ms_ = now_ms;

  std::lock_guard lock(draw_mutex);
  const double fraction = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const int filled = static_cast<int>(fraction * kBarCells);
  std::string bar(static_cast<size_t>(filled), '#');
  bar.resize(kBarCells, '.');
  std::fprintf(stderr, "\r\033[K%s [%s] %3d%% %.1f s %s", label_.c_str(), bar.c_str(),
               static_cast<int>(fraction * 100), static_cast<double>(now_ms) / 1000.0, note_.c_str());
  std::fflush(stderr);
  line_on_screen = true;
}

}  // namespace preheat::base
