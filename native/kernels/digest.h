// Digest of a piece of a flat array, the same on every instruction set and device: equal bits give equal
// digests. It detects accidents (a flipped bit, a diverged worker), not attacks.
//
// The piece is read as 64-bit words, distributed round-robin over four lanes. Each step of a lane is a
// bijection of its state and of the word, so a single differing word always changes the digest.
#pragma once
#include <cstdint>

#include "../core/anywhere.h"

namespace orch::kernels {

constexpr int64_t kDigestPiece = 1 << 16;  ///< elements
constexpr int kDigestLanes = 4;

/// Number of pieces of an array of n elements.
ORCH_ANYWHERE int64_t digest_pieces(int64_t n) { return (n + kDigestPiece - 1) / kDigestPiece; }

ORCH_ANYWHERE uint64_t digest_start(int lane) {
  return 0x9e3779b97f4a7c15ull * static_cast<uint64_t>(lane + 1);
}
ORCH_ANYWHERE uint64_t digest_step(uint64_t state, uint64_t word) {
  const uint64_t x = state ^ word;
  return ((x << 29) | (x >> 35)) * 0xd6e8feb86659fd93ull;
}

}  // namespace orch::kernels
