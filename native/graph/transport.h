// What moves numbers between the devices of several processes, the ranks. All of them make the same calls in
// the same order; calls put work on a queue of the transport's own, beside the device's, and return.
#pragma once
#include <cstdint>
#include <vector>

namespace orch::graph {

/// Functions throw Error(ERR_EXCHANGE), after which nothing but the destructor may be called. One thread at a
/// time, but for abort().
class Transport {
 public:
  struct Transfer {
    enum { Send, Receive } direction;
    int peer;
    float* data;
    int64_t elements;
  };

  /// Ends what is on its way, and waits for nobody.
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;

  /// All at once. From one rank to another, sends and receives must agree in number, order and size.
  virtual void trade(const std::vector<Transfer>& transfers) = 0;
  /// Every rank brings its share of `shares` [ranks, elements], in its place, and gets the others'.
  virtual void all_gather(float* shares, int64_t elements) = 0;

  /// What is queued here from now on starts after what is on the device's queue now.
  virtual void await_queue() = 0;
  /// What is queued on the device from now on starts after what was queued here.
  virtual void hold_queue() = 0;
  /// Returns when all that was queued here is done.
  virtual void wait() = 0;
  /// From any thread: calls under way and those to come throw.
  virtual void abort() = 0;
};

}  // namespace orch::graph
