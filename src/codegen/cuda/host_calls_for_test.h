// What a CUDA unit that was compiled for the host and the runner of its kernels tell each other: plain data
// and function pointers, so that the unit, a shared object, imports nothing. Both sides include this file.
#pragma once

// The CUDA thread that runs now.
struct HostThread {
  int thread;
  int block;
  int blocks;
  unsigned char* shared;  // the block's dynamic shared memory
};

// How a kernel reads global memory.
enum class HostLoad { kStream, kEarlier, kDependent };

// What KERNEL says of a kernel, as `NAME_bounds`.
struct HostBounds {
  int threads;
  int blocks_per_sm;
  unsigned params_bytes;
};

// `line` is always the caller's line in the unit's text. What is misused does not return.
struct HostCalls {
  const HostThread* thread;

  void (*Trap)(int line);
  // Undefined behaviour that the compiler's checks found.
  void (*Undefined)(const char* what, const void* address, const char* type, int line);

  void (*SyncBlock)(int line);
  void (*SyncNamed)(int id, int threads, int line);
  void (*ArriveNamed)(int id, int threads, int line);
  void (*SyncWarp)(int line);
  unsigned (*ShuffleXor)(unsigned value, int mask, int line);
  unsigned (*ShuffleFrom)(unsigned value, int lane, int line);
  unsigned (*Ballot)(bool value, int line);
  int (*WarpIndex)(int line);

  unsigned (*SharedAddress)(const void* p, int line);
  void (*CheckLoad)(HostLoad load, const void* p, int bytes, int line);
  // Before an access to a word of global memory that other threads may access too.
  void (*Atomic)(const char* name, const unsigned* p, bool changes, int line);
  void (*FenceDevice)(int line);
  void (*LaunchDependents)(int line);
  void (*WaitDependencies)(int line);

  void (*CopyAsync)(void* to, const void* from, bool copy, int line);
  void (*CommitCopies)(int line);
  void (*WaitCopies)(int open_groups, int line);

  void (*InitBarrier)(unsigned long long* barrier, int arrivals, int line);
  void (*FenceBarriers)(int line);
  void (*ExpectBytes)(unsigned long long* barrier, unsigned bytes, int line);
  void (*Arrive)(unsigned long long* barrier, int line);
  bool (*TryWaitBarrier)(unsigned long long* barrier, unsigned parity, int line);
  void (*WaitBarrier)(unsigned long long* barrier, unsigned parity, int line);
  unsigned long long (*EvictFirst)();
  void (*CopyBulk)(void* to, const void* from, unsigned bytes, unsigned long long* barrier,
                   unsigned long long policy, int line);

  // Of sm_90a alone. An address in a cluster is a block's rank there and an offset in its memory.
  unsigned (*AddressIn)(const void* p, int rank, int line);
  void (*SyncCluster)(int line);
  void (*ArriveAt)(unsigned barrier, int line);
  void (*Send16)(unsigned to, const float* v, unsigned barrier, int line);
  unsigned long long (*EvictLast)();
  // `blocks` 0: to this block.
  void (*CopyBox)(void* to, const void* map, const int* place, int dims, unsigned long long* barrier,
                  unsigned blocks, unsigned long long policy, int line);
  void (*ArriveWhenCopied)(unsigned long long* barrier, int line);
  void (*FenceCopies)(int line);
  void (*FenceMatrices)(int line);
  void (*CommitMatrices)(int line);
  void (*WaitMatrices)(int open_groups, int line);
  void (*MultiplyMatrices)(float* sums, int columns, unsigned long long a, unsigned long long b, bool add,
                           int line);
  void (*MultiplyFragments)(float* sums, int columns, const unsigned* a, unsigned long long b,
                            bool transposed, bool add, int line);

  void (*MultiplyBf16)(float* d, const unsigned* a, const unsigned* b, int line);
  void (*LoadMatrices)(unsigned* r, const void* row, bool transposed, int line);
};
