// A progress bar on stderr for long work. Only on a terminal, and not with --quiet; elsewhere silent.
// One bar at a time; Advance may be called from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>

namespace preheat::base {

class Progress {
 public:
  // `label` stands before the bar; `total` is the number of units that Advance will be told of, > 0.
  Progress(std::string label, int64_t total);
  ~Progress();  // removes the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(int64_t units = 1);
  // Replaces what stands behind the label, e.g. the name of the current item.
  void SetNote(std::string note);

 private:
  void Draw();

  std::string label_;
  std::string note_;
  int64_t total_;
  std::atomic<int64_t> done_{0};
  bool visible_;
  std::chrono::steady_clock::time_point start_;
  std::atomic<int64_t> last_draw_ms_{-1000};
};

// True where bars and colour are wanted: stderr is a terminal, TERM is not dumb, the log level not quiet.
bool ProgressWanted();
// Clears a bar's line so that another line can be written; the bar comes back with its next Advance.
void HideProgressLine();

}  // namespace preheat::base
