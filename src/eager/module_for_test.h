// The module that all tests of a process share.
#pragma once

#include <cstdlib>

#include "eager/module.h"

namespace preheat::eager {

inline const Module& TheModule() {
  static const Module module = [] {
    // Threads that wait must not spin while other tests run: small operations would take a time slice each.
    ::setenv("OMP_WAIT_POLICY", "passive", 0);
    return Module::Open();
  }();
  return module;
}

}  // namespace preheat::eager
