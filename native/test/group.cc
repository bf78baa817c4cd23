// Members of a group, each on its own thread with its own mappings: sums, shared work, and failures.
#include "../engine/group.h"

#include <cstring>
#include <random>
#include <thread>

#include "../core/error.h"
#include "../core/watchdog.h"
#include "../engine/gradient_sums.h"
#include "harness.h"
#include "tree.h"

namespace {

using namespace orch;

constexpr int64_t kLength = 5000, kPiece = 512, kPieces = (kLength + kPiece - 1) / kPiece;

std::vector<std::string> addresses_of(const std::vector<std::unique_ptr<Group>>& groups) {
  std::vector<std::string> list;
  for (const auto& g : groups) list.push_back(g->address());
  return list;
}

std::vector<std::unique_ptr<Group>> make_groups(int members) {
  std::vector<std::unique_ptr<Group>> groups;
  for (int r = 0; r < members; ++r) groups.push_back(std::make_unique<Group>());
  const auto addresses = addresses_of(groups);
  for (int r = 0; r < members; ++r) groups[r]->form(addresses, r, 1);
  return groups;
}

template <class F>
void each_member(int members, F f) {
  std::vector<std::thread> threads;
  for (int r = 0; r < members; ++r) threads.emplace_back([&, r] { f(r); });
  for (auto& t : threads) t.join();
}

void enter(Group& group) { group.enter(1, group.allocate(sizeof(optim::UndoLog))); }

TEST("group: sums along the tree, runs every piece once, and shares memory") {
  std::mt19937 random(9);
  for (int members : {1, 2, 3, 5}) {
    const int64_t total = 7;
    const int rounds = 20;
    const auto leaves = test::random_leaves(total, kLength, random);
    const auto want = test::part_sum(leaves, 0, total);
    const auto groups = make_groups(members);
    std::vector<int> wrong(members), mine(members);
    each_member(members, [&](int r) {
      Group& group = *groups[r];
      Pool pool(1 + r % 2);
      GradientSums sums(graph::cpu_device(), kLength, {{0, kLength}});
      sums.allocate_with([&](size_t bytes) { return group.allocate(bytes); });
      enter(group);
      Buffer state, counts;
      group.share_state(1, [&](SharedState& shared) {
        state = shared.map(kLength * sizeof(float));
        counts = shared.map(kPieces * sizeof(int));
      });
      for (int round = 0; round < rounds; ++round) {
        const int64_t first = r * total / members, end = (r + 1) * total / members;
        sums.begin(first, end, total, [](int) {});
        for (int64_t slot = first; slot < end; ++slot) {
          float* buffer = sums.acquire();
          std::memcpy(buffer, leaves[slot].data(), kLength * sizeof(float));
          sums.complete(slot, buffer, 0);
        }
        group.exchange(sums.parts(), total, kLength * sizeof(float));
        group.parallel_for(pool, kPieces, [&](int64_t i, int) {
          group.sum_parts(i * kPiece, std::min(kLength, (i + 1) * kPiece));
          ++counts.as<int>()[i];
          ++mine[r];
        });
        wrong[r] += std::memcmp(group.sum(), want.data(), kLength * sizeof(float)) != 0;
        group.parallel_for(pool, kPieces, [&](int64_t i, int) {
          for (int64_t j = i * kPiece; j < std::min(kLength, (i + 1) * kPiece); ++j)
            state.as<float>()[j] += group.sum()[j] * 0x1p-40f;
        });
        for (int64_t i = 0; i < kPieces; ++i) wrong[r] += counts.as<int>()[i] != round + 1;
        group.barrier();
      }
      for (int64_t j = 0; j < kLength; ++j) {
        float x = 0;
        for (int round = 0; round < rounds; ++round) x += want[j] * 0x1p-40f;
        wrong[r] += state.as<float>()[j] != x;
      }
    });
    for (int r = 0; r < members; ++r) CHECK(wrong[r] == 0, members, " members, rank ", r, ": ", wrong[r]);
  }
}

TEST("group: abort ends every wait, and an unrelated process is rejected") {
  const auto groups = make_groups(2);
  each_member(2, [&](int r) { enter(*groups[r]); });
  std::string code;
  std::thread waiting([&] {
    try {
      groups[0]->barrier();
    } catch (const Error& e) {
      code = e.code();
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  groups[0]->abort();
  waiting.join();
  CHECK(code == "ERR_EXCHANGE", code);

  const auto refused = [](const std::string& stranger) -> std::string {
    Group own;
    try {
      own.form({own.address(), stranger}, 0, 1);
    } catch (const Error& e) {
      return e.code();
    }
    return "";
  };
  const std::string address = groups[1]->address();
  const size_t key = address.rfind('/');
  CHECK(refused(address) == "", "a true address");
  CHECK(refused("elsewhere" + address) == "ERR_SHARED_MEMORY", "another machine");
  CHECK(refused("") == "ERR_SHARED_MEMORY", "no address");
  // As if the peer were lost: it was there when it said its address.
  CHECK(refused(address.substr(0, key) + "/0123456789abcdef") == "ERR_EXCHANGE", "another key");
  CHECK(refused(address.substr(0, address.find('/')) + "/999999999/3/1") == "ERR_EXCHANGE",
        "no such process");
}

TEST("group: members wait while the leader holds") {
  const auto groups = make_groups(2);
  each_member(2, [&](int r) { enter(*groups[r]); });
  std::atomic<bool> passed{false};
  groups[0]->hold();
  std::thread member([&] {
    groups[1]->wait_released();
    passed = true;
  });
  while (progress().stage != Stage::Wait && !passed) std::this_thread::yield();
  CHECK(!passed, "while held");
  groups[0]->release();
  member.join();
  CHECK(passed, "after the release");
}

}  // namespace
