#include "emulate.h"

#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../../../core/dtype.h"
#include "../../../core/error.h"

namespace orch::emulate {

Place place;
bool backwards = false;
bool warpgroups = true;

namespace {

/// Not a power of two: the tops of the stacks, where threads work, would share a few sets of the caches.
constexpr size_t kStack = (128 << 10) + 17 * 64;
constexpr int kLanes = 32;

/// Pushes the callee-saved registers, stores the stack pointer in *from, and continues at `to`.
extern "C" void orch_emulate_switch(void** from, void* to);
#if defined(__x86_64__)
constexpr int kSwitchWords = 7, kEntryWord = 6;  ///< words it saves, and the index of the resume address
constexpr int kCallWords = 1;                    ///< above them, for the alignment of a call
asm(R"(
  .text
  .p2align 4
orch_emulate_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");
#elif defined(__aarch64__)
constexpr int kSwitchWords = 20, kEntryWord = 11, kCallWords = 0;
asm(R"(
  .text
  .p2align 4
orch_emulate_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
#else
#error "Emulated threads change stacks in assembly: x86-64 and aarch64"
#endif

struct Copy {
  void* to;
  const void* from;
  bool inside;
};

struct Fiber {
  void* stack_pointer;
  dim3 thread;
  enum { Ready, AtBlock, AtWarp, Done } state;
  void* argument;  ///< argument of the warp operation in which it waits
  int arrived;     ///< of a warp's first lane: lanes that wait in a warp operation
  std::vector<Copy> open;
  std::deque<std::vector<Copy>> closed;
  std::vector<std::function<void()>> started;  ///< asynchronous products
  std::deque<std::vector<std::function<void()>>> committed;
};

std::mutex one_grid;
void* scheduler;  // stack pointer of the scheduler
std::vector<Fiber> fibers;
char* stacks = nullptr;
size_t stacks_made = 0;
Fiber* current = nullptr;
const std::function<void()>* body = nullptr;
std::vector<unsigned char> shared_memory;
unsigned char* shared_start = nullptr;

std::exception_ptr failure;

void enter() {
  try {
    (*body)();
    if (!current->started.empty() || !current->committed.empty())
      throw Error("ERR_EMULATED", "A thread ended with products that it has not waited for");
  } catch (...) {  // must not leave the fiber
    failure = std::current_exception();
  }
  current->state = Fiber::Done;
  orch_emulate_switch(&current->stack_pointer, scheduler);
}

void yield(decltype(Fiber::state) state) {
  Fiber* me = current;
  me->state = state;
  orch_emulate_switch(&me->stack_pointer, scheduler);
}

size_t index_of(const Fiber* f) { return static_cast<size_t>(f - fibers.data()); }

/// The last lane to arrive does the work for all lanes.
template <class Argument>
void together(Argument& mine, void (*work)(Argument* const* lanes)) {
  Fiber* me = current;
  me->argument = &mine;
  const size_t first = index_of(me) / kLanes * kLanes;
  if (first + kLanes > fibers.size()) throw Error("ERR_EMULATED", "A warp operation in a part of a warp");
  if (++fibers[first].arrived < kLanes) return yield(Fiber::AtWarp);
  fibers[first].arrived = 0;
  Argument* lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    lanes[i] = static_cast<Argument*>(fibers[first + i].argument);
    fibers[first + i].state = Fiber::Ready;
  }
  work(lanes);
}

void make_stacks(size_t count) {
  if (stacks_made >= count) return;
  if (stacks) munmap(stacks, stacks_made * kStack);
  stacks = static_cast<char*>(
      mmap(nullptr, count * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (stacks == MAP_FAILED) throw Error("ERR_OUT_OF_MEMORY", "No memory for the stacks of emulated threads");
  stacks_made = count;
}

void run_block(dim3 size) {
  std::memset(shared_memory.data(), 0xff, shared_memory.size());
  const size_t count = fibers.size();
  for (size_t i = 0; i < count; ++i) {
    Fiber& f = fibers[i];
    const unsigned n = static_cast<unsigned>(i);
    f.thread = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    f.state = Fiber::Ready;
    f.arrived = 0;
    f.open.clear();
    f.closed.clear();
    f.started.clear();
    f.committed.clear();
    // The layout that orch_emulate_switch leaves.
    void** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack) - kCallWords - kSwitchWords;
    top[kEntryWord] = reinterpret_cast<void*>(&enter);
    f.stack_pointer = top;
  }
  for (;;) {
    bool ran = false;
    size_t done = 0, waiting = 0;
    for (size_t turn = 0; turn < count; ++turn) {
      Fiber& f = fibers[backwards ? count - 1 - turn : turn];
      if (f.state == Fiber::Ready) {
        current = &f;
        place.thread = f.thread;
        orch_emulate_switch(&scheduler, f.stack_pointer);
        ran = true;
        if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
      }
      done += f.state == Fiber::Done;
      waiting += f.state == Fiber::AtBlock;
    }
    if (done == count) return;
    if (waiting > 0 && done + waiting == count) {
      for (Fiber& f : fibers)
        if (f.state == Fiber::AtBlock) f.state = Fiber::Ready;
    } else if (!ran) {
      throw Error("ERR_EMULATED", "Threads of block ", place.block.x,
                  " wait for others that never come: a divergent barrier or warp operation");
    }
  }
}

}  // namespace

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& b) {
  std::lock_guard lock(one_grid);
  body = &b;
  fibers.resize(block.x * block.y * block.z);
  make_stacks(fibers.size());
  shared_memory.resize(shared_bytes + 128);
  shared_start = shared_memory.data() + (128 - reinterpret_cast<uintptr_t>(shared_memory.data()) % 128);
  place.block_size = block;
  place.grid_size = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        place.block = {x, y, z};
        run_block(block);
      }
}

unsigned char* shared() { return shared_start; }
void sync_block() { yield(Fiber::AtBlock); }

void sync_warp() {
  int nothing = 0;
  together<int>(nothing, [](int* const*) {});
}

float shuffle_xor(float x, int mask) {
  struct Argument {
    float in, out;
    int mask;
  } mine{x, 0, mask};
  together<Argument>(mine, [](Argument* const* lanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i]->out = lanes[i ^ lanes[i]->mask]->in;
  });
  return mine.out;
}

void load_matrices(uint32_t (&r)[4], const void* row, bool transposed) {
  struct Argument {
    const uint16_t* row;
    uint32_t* to;
    bool transposed;
  } mine{static_cast<const uint16_t*>(row), r, transposed};
  if (reinterpret_cast<uintptr_t>(row) % 16) throw Error("ERR_EMULATED", "A matrix row is not aligned");
  together<Argument>(mine, [](Argument* const* lanes) {
    for (int i = 0; i < kLanes; ++i)
      for (int m = 0; m < 4; ++m) {
        const auto at = [&](int row, int column) -> uint32_t { return lanes[8 * m + row]->row[column]; };
        const int a = i / 4, b = 2 * (i % 4);
        lanes[i]->to[m] =
            lanes[i]->transposed ? at(b, a) | at(b + 1, a) << 16 : at(a, b) | at(a, b + 1) << 16;
      }
  });
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Argument {
    float* c;
    const uint32_t* a;
    uint32_t b[2];
  } mine{c, a, {b0, b1}};
  together<Argument>(mine, [](Argument* const* lanes) {
    const auto half = [](uint32_t u, int i) {
      return to_float(bf16{static_cast<uint16_t>(i ? u >> 16 : u & 0xffff)});
    };
    float left[16][16], right[16][8];
    for (int i = 0; i < kLanes; ++i) {
      const int g = i / 4, t = 2 * (i % 4);
      for (int j = 0; j < 2; ++j) {
        left[g][t + j] = half(lanes[i]->a[0], j);
        left[g + 8][t + j] = half(lanes[i]->a[1], j);
        left[g][t + 8 + j] = half(lanes[i]->a[2], j);
        left[g + 8][t + 8 + j] = half(lanes[i]->a[3], j);
        right[t + j][g] = half(lanes[i]->b[0], j);
        right[t + 8 + j][g] = half(lanes[i]->b[1], j);
      }
    }
    // By rows, which compilers vectorize; each sum is in the order of k.
    float product[16][8] = {};
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        for (int column = 0; column < 8; ++column) product[row][column] += left[row][k] * right[k][column];
    for (int i = 0; i < kLanes; ++i)
      for (int j = 0; j < 4; ++j) lanes[i]->c[j] += product[i / 4 + 8 * (j / 2)][2 * (i % 4) + j % 2];
  });
}

void copy_async(void* to, const void* from, bool inside) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
    throw Error("ERR_EMULATED", "An asynchronous copy is not aligned");
  current->open.push_back({to, from, inside});
}
void commit_copies() {
  current->closed.push_back(std::move(current->open));
  current->open.clear();
}
void wait_for_copies(int open) {
  auto& groups = current->closed;
  for (; groups.size() > static_cast<size_t>(open); groups.pop_front())
    for (const Copy& c : groups.front()) c.inside ? std::memcpy(c.to, c.from, 16) : std::memset(c.to, 0, 16);
}

void start_product(std::function<void()> product) { current->started.push_back(std::move(product)); }
void commit_products() {
  current->committed.push_back(std::move(current->started));
  current->started.clear();
}
void wait_for_products(int open) {
  auto& batches = current->committed;
  while (batches.size() > static_cast<size_t>(open)) {
    const auto batch = std::move(batches.front());
    batches.pop_front();
    for (const auto& product : batch) product();
  }
}

}  // namespace orch::emulate
