// A session without a checkpoint: for measuring, where it does not matter what the weights' numbers are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "program/program.h"
#include "session/session.h"
#include "store/store.h"

namespace preheat::compile {

// `weight` gives a weight's memory on the device. The programs' code is in the store; `library` is needed
// where they call one (session::Bindings::library). Errors: Corrupt where code is missing; what Session
// throws.
std::unique_ptr<session::Session> OpenBareSession(
    device::Device& device, store::Store& store, std::vector<program::Program> programs,
    std::function<const void*(const std::string& name, const program::Weight&)> weight,
    const session::SessionOptions& options,
    std::function<device::Kernel(const std::string& library, const std::string& entry)> library = {});

}  // namespace preheat::compile
