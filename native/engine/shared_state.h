// The state of a model in memory that workers share. It is updated in place, by whichever of them has time,
// and holds what is needed to finish an update in whose middle one of them was killed: the last step of every
// piece, and the update itself. What the one that was killed had begun is in its undo log (undo_log.h).
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "../core/shared_file.h"
#include "../optim/update.h"

namespace orch {

class SharedState {
 public:
  static constexpr int64_t kNoStep = -1;

  /// A sum of gradients: which generation of a group made it, and in which exchange.
  struct Sum {
    uint64_t group, exchange;
    bool operator==(const Sum&) const = default;
  };
  /// An update as every member applies it.
  struct Update {
    int64_t step;
    bool ema;  ///< whether it changes the EMA
    optim::Update factors;
    Sum sum;
  };

  /// Creates memory for a state that is updated in so many pieces. Throws Error(ERR_SHARED_MEMORY) and
  /// Error(ERR_OUT_OF_MEMORY).
  explicit SharedState(int64_t pieces);
  /// Opens the one that process `pid` holds as `descriptor`. Throws also Error(ERR_EXCHANGE).
  SharedState(int64_t pieces, int pid, int descriptor);

  int descriptor() const { return file_.descriptor(); }
  /// A random number, the same in all processes that map it.
  uint64_t key() const;
  /// The next array of this size. All map the same arrays in the same order.
  Buffer map(size_t bytes);

  /// The step of the update that was begun last, or of the state that was loaded; kNoStep: there is none. The
  /// state is that of this step once no piece is torn.
  int64_t step() const;
  /// The state is that of this step, or there is none.
  void set_step(int64_t step);
  /// Pieces that the last update has left out.
  std::vector<int64_t> torn() const;
  /// The last update; only where a piece is torn.
  const Update& last() const;

  /// Begins an update. Every member does, with the same one, after all have ended that before.
  void begin(const Update& update);
  /// The piece is completely that of this step.
  void stamp(int64_t piece, int64_t step);

 private:
  struct Header;
  Header& header() const;
  std::atomic<uint32_t>& stamp_of(int64_t piece) const { return stamps_.as<std::atomic<uint32_t>>()[piece]; }

  SharedFile file_;
  size_t next_ = 0;
  Buffer page_, stamps_;
};

}  // namespace orch
