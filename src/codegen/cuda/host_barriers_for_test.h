// The barriers of one block that bulk copies complete (mbarrier), and the copies on their way to them. A
// phase completes when all its arrivals have come and all its announced bytes; a wait for parity P passes
// when the phase before the current one has parity P. Source: PTX ISA, "mbarrier".
//
// What a kernel may get wrong is returned as text, "" where nothing is wrong.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/cuda/host_shared_for_test.h"

namespace preheat::codegen::cuda {

class CopyBarriers {
 public:
  using Word = unsigned long long;  // in shared memory: which barrier it is

  struct Barrier {
    Word* word = nullptr;
    int arrivals = 0;   // of each phase
    int missing = 0;    // arrivals that the current phase still waits for
    int64_t bytes = 0;  // announced in this phase and not copied
    uint32_t phase = 0;
    int owner = 0;  // the thread that made it
    bool fenced = false;
    int unseen_line = 0;  // of a copy that was performed, and no wait has passed since
    std::vector<PendingCopy> copies;

    bool Passes(uint32_t parity) const { return (phase & 1) != parity; }
  };

  // A block starts. `shared` must outlive this.
  void Start(SharedBuffer& shared);

  std::string Init(Word* word, int arrivals, int thread);
  void Fence(int thread);
  std::string ExpectBytes(Word* word, uint32_t bytes);
  std::string Arrive(Word* word);
  std::string Copy(Word* word, PendingCopy copy);
  // For a wait: the barrier, or null and `problem`.
  Barrier* Find(const Word* word, std::string& problem);

  // Performs the copy `index` of `barrier`.
  std::string PerformCopy(Barrier& barrier, size_t index);
  std::vector<Barrier>& all() { return barriers_; }
  int in_flight() const { return in_flight_; }
  // "barrier at shared memory + 8: phase 0 (parity 0) misses 1 of 2 arrivals and 64 bytes"
  std::string Describe(const Barrier& barrier) const;

 private:
  std::string CompletePhase(Barrier& barrier);

  SharedBuffer* shared_ = nullptr;
  std::vector<Barrier> barriers_;
  int in_flight_ = 0;  // copies issued and not performed
};

}  // namespace preheat::codegen::cuda
