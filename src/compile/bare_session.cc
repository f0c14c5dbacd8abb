#include "compile/bare_session.h"

#include <utility>

#include "base/error.h"

namespace preheat::compile {

std::unique_ptr<session::Session> OpenBareSession(
    device::Device& device, store::Store& store, std::vector<program::Program> programs,
    std::function<const void*(const std::string& name, const program::Weight&)> weight,
    const session::SessionOptions& options,
    std::function<device::Kernel(const std::string& library, const std::string& entry)> library) {
  std::vector<store::EntryBytes> images;
  session::Bindings bindings;
  bindings.weight = std::move(weight);
  bindings.library = std::move(library);
  bindings.code = [&](const std::string& hash) {
    auto entry = store.Get(store::EntryKind::kCode, hash);
    if (!entry) throw base::MakeError(base::ErrorKind::kCorrupt, "machine code {} is missing", hash);
    images.push_back(std::move(*entry));
    return images.back().span();
  };
  return std::make_unique<session::Session>(device, std::move(programs), bindings, options);
}

}  // namespace preheat::compile
