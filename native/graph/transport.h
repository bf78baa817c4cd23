// Communication between the devices of several processes, the ranks. All ranks make the same calls in the
// same order. Calls enqueue work on the transport's own stream, separate from the device's, and return.
// Additions on that stream count as transfers below.
#pragma once
#include <cstdint>
#include <vector>

namespace orch::graph {

/// Functions throw Error(ERR_EXCHANGE); after that only the destructor may be called. Calls come from one
/// thread at a time, except abort().
class Transport {
 public:
  struct Transfer {
    enum { Send, Receive } direction;
    int peer;
    float* data;
    int64_t elements;
  };

  /// Aborts transfers in flight, without waiting for other ranks.
  virtual ~Transport() = default;

  /// Grouped send/recv of fp32 elements (ncclGroupStart, ncclSend, ncclRecv, ncclGroupEnd). Between two
  /// ranks, sends and receives must agree in number, order and size.
  virtual void send_receive(const std::vector<Transfer>& transfers) = 0;
  /// All-gather (ncclAllGather), in place: each rank's share is in row `rank` of `shares` [ranks, elements],
  /// and afterwards every rank has all rows.
  virtual void all_gather(float* shares, int64_t elements) = 0;
  /// to = a + b, on the transport's stream: after the transfers enqueued before, without the compute stream.
  virtual void add(float* to, const float* a, const float* b, int64_t elements) = 0;

  /// Stream wait (cudaEventRecord, cudaStreamWaitEvent): transfers enqueued from now on start after the work
  /// that is on the device's stream now.
  virtual void wait_for_compute_stream() = 0;
  /// Stream wait in the other direction: work enqueued on the device's stream from now on starts after the
  /// transfers enqueued until now.
  virtual void make_compute_stream_wait() = 0;
  /// Blocks, by polling, until all enqueued transfers are done.
  virtual void wait() = 0;
  /// Makes calls in progress and all later ones throw. May be called from any thread.
  virtual void abort() = 0;
};

}  // namespace orch::graph
