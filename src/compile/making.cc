#include "compile/making.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace preheat::compile {
namespace {

// What ends the threads of a Making that nobody waits for any more.
struct Abandoned {};

}  // namespace

Making::Making(CodeMaker& code, std::span<const Source> sources, bool aside,
               std::function<void(const Source&)> made)
    : hashes_(sources.size()) {
  const auto keep = [this, sources, made = std::move(made)](size_t source, const std::string& hash) {
    made(sources[source]);
    const std::lock_guard lock(mutex_);
    if (abandoned_) throw Abandoned{};
    hashes_[source] = hash;
    changed_.notify_all();
  };
  making_ =
      std::async(aside ? std::launch::async : std::launch::deferred, [this, &code, sources, keep, aside] {
        try {
          code.Make(sources, {.made = keep, .spared = aside ? 1 : 0, .shows_progress = !aside});
        } catch (...) {
          const std::lock_guard lock(mutex_);
          failed_ = true;
          changed_.notify_all();
          throw;
        }
      });
  if (!aside) Finish();
}

Making::~Making() {
  {
    const std::lock_guard lock(mutex_);
    abandoned_ = true;
  }
  if (making_.valid()) making_.wait();
}

bool Making::IsMade(const Group& group) const {
  const auto hashes = std::span(hashes_).subspan(group.first, group.count);
  return std::ranges::none_of(hashes, [](const std::string& hash) { return hash.empty(); });
}

size_t Making::WaitForOne(std::span<const Group> groups) {
  {
    std::unique_lock lock(mutex_);
    auto found = groups.end();
    changed_.wait(lock, [&] {
      found = std::ranges::find_if(groups, [&](const Group& group) { return IsMade(group); });
      return found != groups.end() || failed_;
    });
    if (!failed_) return static_cast<size_t>(found - groups.begin());
  }
  Finish();  // it throws
  CHECK(false);
}

std::string Making::HashOf(size_t source) {
  const std::lock_guard lock(mutex_);
  return hashes_[source];
}

void Making::Finish() {
  if (making_.valid()) making_.get();
}

}  // namespace preheat::compile
