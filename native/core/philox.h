// Philox4x32-10 (Salmon et al. 2011), a counter-based generator: four 32-bit words for every (key, counter),
// without state.
#pragma once
#include <array>
#include <cstdint>

namespace orch {

/// Numbers of the random streams; src/random/philox.ts has the same table. Never renumber them.
enum RandomStream : uint32_t { kNoiseStream = 0, kInitStream = 4 };

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 2> key, std::array<uint32_t, 4> c) {
  for (int round = 0; round < 10; ++round) {
    uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return c;
}

}  // namespace orch
