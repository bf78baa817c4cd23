// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), a counter-based
// generator: four 32-bit words for every (key, counter), without state.
#pragma once
#include <cstdint>

#include "anywhere.h"

namespace orch {

/// Numbers of the random streams; src/random/philox.ts has the same table. Never renumber them.
enum RandomStream : uint32_t { kNoiseStream = 0, kInitStream = 4, kPosteriorStream = 8 };

/// Replaces the counter c by its words. (Always inlined, so that no instruction set's copy serves another.)
__attribute__((always_inline)) ORCH_ANYWHERE void philox(uint64_t key, uint32_t (&c)[4]) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
    c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

}  // namespace orch
