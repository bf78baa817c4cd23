// Sums: bias gradients, the loss, sums of gradients and their norms, and digests.
#include "kernels/digest.h"
#include "kernels_support.h"

namespace orch::test {
namespace {

using kernels::kDigestPiece;
using kernels::Table;

const int64_t kLengths[] = {1, 3, 16, 31, 64, 257, 1000};

TEST("kernels column_sum") {
  for_each_kernel_set([]<class T>(const Table& t) {
    for (const auto& [rows, width] :
         {std::array<int64_t, 2>{1, 64}, {7, 192}, {100, 384}, {1536, 576}, {130, 13}, {65, 141}}) {
      const auto dy = random<T>(rows * width, 1, 1, 0.1);
      std::vector<float> db(width);
      run_twice("column_sum", [&] { t.typed<T>().column_sum(db.data(), dy.data(), rows, width, width); },
                {bytes(db)});
      Vec want(width);
      for (int64_t i = 0; i < rows * width; ++i) want[i % width] += to_float(dy[i]);
      CHECK_CLOSE(relative(db, want), 1e-6, t.isa, " ", rows, " x ", width);
    }
  });
}

TEST("kernels mse") {
  for (const Table* t : tables()) {
    for (const int64_t n : kLengths) {
      constexpr int64_t samples = 3;
      const auto v = random<float>(samples * n, 1), target = random<float>(samples * n, 2);
      const std::vector<float> scale = {1, 0.25f, 3};
      std::vector<float> loss(samples), dv(samples * n), alone(samples);
      run_twice(
          "mse",
          [&] { t->raw.mse(loss.data(), dv.data(), v.data(), target.data(), scale.data(), samples, n); },
          {bytes(loss), bytes(dv)});
      t->raw.mse(alone.data(), nullptr, v.data(), target.data(), nullptr, samples, n);
      CHECK(alone == loss, t->isa, ": loss without gradient");
      Vec want(samples), want_dv(samples * n);
      for (int64_t i = 0; i < samples * n; ++i) {
        const double e = static_cast<double>(v[i]) - target[i];
        want[i / n] += e * e / n;
        want_dv[i] = scale[i / n] * 2 * e / n;
      }
      CHECK_CLOSE(relative(loss, want), 1e-6, t->isa, " n ", n);
      CHECK_CLOSE(relative(dv, want_dv), 1e-6, t->isa, " n ", n);
    }
  }
}

TEST("kernels sums of gradients") {
  for (const Table* t : tables()) {
    for (const int64_t n : kLengths) {
      const auto a = random<float>(n, 1), b = random<float>(n, 2);
      std::vector<float> sum(n), into = a, scaled = a;
      run_twice("add", [&] { t->f32.add(sum.data(), a.data(), b.data(), n); }, {bytes(sum)});
      t->f32.add(into.data(), into.data(), b.data(), n);
      t->raw.scale_into(scaled.data(), 0.3f, n);
      double squares = 0;
      for (int64_t i = 0; i < n; ++i) {
        CHECK(sum[i] == a[i] + b[i] && into[i] == a[i] + b[i] && scaled[i] == a[i] * 0.3f, t->isa);
        squares += static_cast<double>(a[i]) * a[i];
      }
      const auto sum_of_squares = [&](const std::vector<float>& x) {
        double sum = 0;
        t->raw.add_squares(&sum, x.data(), n);
        return sum;
      };
      double got = sum_of_squares(a);
      CHECK_CLOSE(std::abs(got / squares - 1), 1e-13, t->isa, " n ", n);
      CHECK(got == sum_of_squares(a), t->isa);
      const double once = got;
      t->raw.add_squares(&got, a.data(), n);
      CHECK(got == once + once, t->isa);
      CHECK(t->raw.first_non_finite(a.data(), n) == -1, t->isa);
      for (const float bad :
           {static_cast<float>(NAN), static_cast<float>(INFINITY), -static_cast<float>(INFINITY)}) {
        for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
          auto damaged = a;
          damaged[at] = damaged[n - 1] = bad;
          CHECK(t->raw.first_non_finite(damaged.data(), n) == at, t->isa, " n ", n, " at ", at);
          CHECK(!std::isfinite(sum_of_squares(damaged)), t->isa, " n ", n, " at ", at);
        }
      }
    }
  }
}

/// As digest.h defines it, word by word.
std::vector<uint64_t> plain_digest(const std::vector<float>& x) {
  std::vector<uint64_t> lanes;
  for (size_t from = 0; from < x.size(); from += kDigestPiece) {
    const size_t end = std::min(x.size(), from + kDigestPiece);
    uint64_t s[4];
    for (int lane = 0; lane < 4; ++lane) s[lane] = 0x9e3779b97f4a7c15ull * (lane + 1);
    for (size_t i = from; i < end; i += 2) {
      uint64_t word;
      std::memcpy(&word, &x[i], sizeof word);
      uint64_t& state = s[(i - from) / 2 % 4];
      state = std::rotl(state ^ word, 29) * 0xd6e8feb86659fd93ull;
    }
    lanes.insert(lanes.end(), s, s + 4);
  }
  return lanes;
}

TEST("kernels digest: any length, equal on every instruction set, and changed by any bit") {
  for (const Table* t : tables()) {
    for (const int64_t n :
         {int64_t{2}, int64_t{6}, int64_t{16}, kDigestPiece, kDigestPiece + 10, 3 * kDigestPiece - 2}) {
      auto x = random<float>(n, 5);
      const auto want = plain_digest(x);
      std::vector<uint64_t> got(want.size());
      const auto take = [&] { t->raw.digest(got.data(), x.data(), n); };
      run_twice("digest", take, {bytes(got)});
      CHECK(got == want, t->isa, " n ", n);
      for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
        const float before = x[at];
        x[at] = -before;
        take();
        CHECK(got != want, t->isa, " n ", n, ": the sign of element ", at, " does not show");
        x[at] = before;
      }
    }
  }
}

/// As Fletcher's: the words of 32 bits that are 64 bytes apart have a sum, and a sum of its sums.
uint64_t plain_checksum(const std::vector<uint8_t>& bytes) {
  uint64_t sums[2][16] = {};
  for (size_t at = 0; at < bytes.size(); at += 64) {
    uint32_t words[16] = {};
    std::memcpy(words, &bytes[at], std::min<size_t>(64, bytes.size() - at));
    for (int j = 0; j < 16; ++j) sums[1][j] += sums[0][j] += words[j];
  }
  uint64_t state = 0x9e3779b97f4a7c15ull;
  const auto step = [&](uint64_t word) { state = std::rotl(state ^ word, 29) * 0xd6e8feb86659fd93ull; };
  step(bytes.size());
  for (const auto& of : sums)
    for (const int half : {0, 1})
      for (int j = half; j < 16; j += 2) step(of[j]);
  return state;
}

TEST("kernels checksum: any length and address, equal on every instruction set, and changed by any bit") {
  for (const Table* t : tables()) {
    // It is of what goes over sockets.
    if (t == &kernels::cuda::table()) continue;
    for (const int64_t n : {0, 1, 7, 63, 64, 65, 200, 5'000}) {
      std::vector<uint8_t> x(n);
      for (int64_t i = 0; i < n; ++i) x[i] = static_cast<uint8_t>(i * 31 + 7);
      const uint64_t want = plain_checksum(x);
      CHECK(t->raw.checksum(x.data(), n) == want, t->isa, " n ", n);
      std::vector<uint8_t> shifted(n + 3);
      std::copy(x.begin(), x.end(), shifted.begin() + 3);
      CHECK(t->raw.checksum(shifted.data() + 3, n) == want, t->isa, " n ", n);
      for (int64_t bit = 0; bit < 8 * n; ++bit) {
        x[bit / 8] ^= 1 << bit % 8;
        CHECK(t->raw.checksum(x.data(), n) != want, t->isa, " n ", n, ": bit ", bit, " does not show");
        x[bit / 8] ^= 1 << bit % 8;
      }
    }
    // What bits do not change as a sum: the order, and zeros at the end.
    std::vector<uint8_t> x(256);
    x[0] = 1;
    const uint64_t first = t->raw.checksum(x.data(), 256);
    std::swap(x[0], x[128]);
    CHECK(t->raw.checksum(x.data(), 256) != first, t->isa);
    CHECK(t->raw.checksum(x.data(), 255) != t->raw.checksum(x.data(), 256), t->isa);
  }
}

}  // namespace
}  // namespace orch::test
