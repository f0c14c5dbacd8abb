#include "compile/making.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace preheat::compile {

Making::Making(CodeMaker& code, std::span<const Source> sources, bool aside,
               std::function<void(const Source&)> made)
    : hashes_(sources.size()) {
  const auto keep = [this, sources, made = std::move(made)](size_t source, const std::string& hash) {
    made(sources[source]);
    const std::lock_guard lock(mutex_);
    hashes_[source] = hash;
    changed_.notify_all();
  };
  making_ = std::async(aside ? std::launch::async : std::launch::deferred, [this, &code, sources, keep] {
    struct End {
      Making* making;
      ~End() {
        const std::lock_guard lock(making->mutex_);
        making->ended_ = true;
        making->changed_.notify_all();
      }
    } const end{this};
    code.Make(sources, keep);
  });
  if (!aside) Finish();
}

bool Making::IsMade(const Group& group) const {
  const auto hashes = std::span(hashes_).subspan(group.first, group.count);
  return std::ranges::none_of(hashes, [](const std::string& hash) { return hash.empty(); });
}

size_t Making::WaitForOne(std::span<const Group> groups) {
  std::optional<size_t> made;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      const auto found = std::ranges::find_if(groups, [&](const Group& group) { return IsMade(group); });
      if (found != groups.end()) made = static_cast<size_t>(found - groups.begin());
      return made || ended_;
    });
  }
  if (!made) Finish();  // it throws what ended it
  return made.value();
}

std::string Making::HashOf(size_t source) {
  const std::lock_guard lock(mutex_);
  return hashes_[source];
}

void Making::Finish() {
  if (making_.valid()) making_.get();
}

}  // namespace preheat::compile
