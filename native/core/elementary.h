// exp, log, sine, cosine, tangent, arc tangent and powers in double precision, with the same bits on every
// machine, from every compiler and C library. They use only + - * / and comparisons, each rounded as IEEE 754
// specifies. They do not use libm, because its functions differ between versions; so do those of JavaScript
// engines.
//
// The parts of a computation that decide the last bit use pairs of doubles (double-double arithmetic), which
// hold about 106 bits. Nearly every result is therefore correctly rounded: of 2.4e8 random arguments (ranges
// in native/test/elementary.cc), checked in quadruple precision, all but 21 were, and those were off by
// 0.500002 units in the last place at most. Results below 2^-1022 may be off by one unit. The coefficients
// are those of the Taylor series, which after argument reduction need only a few more terms than a minimax
// fit.
#pragma once
#include <cstdint>

#include "rounded.h"

namespace orch::elementary {

using Real = Rounded<double>;

/// The sum hi + lo, where hi is the double nearest to it.
struct Pair {
  Real hi, lo;
};

ORCH_ANYWHERE double from_bits(uint64_t u) {
  double x;
  __builtin_memcpy(&x, &u, 8);
  return x;
}
ORCH_ANYWHERE uint64_t to_bits(double x) {
  uint64_t u;
  __builtin_memcpy(&u, &x, 8);
  return u;
}
ORCH_ANYWHERE double infinity() { return from_bits(0x7ff0000000000000u); }
ORCH_ANYWHERE double not_a_number() { return from_bits(0x7ff8000000000000u); }
ORCH_ANYWHERE double magnitude(double x) { return x < 0 ? -x : x; }
/// 2^k, -1022 <= k <= 1023.
ORCH_ANYWHERE double power_of_two(int k) { return from_bits(static_cast<uint64_t>(k + 1023) << 52); }
/// The nearest integer, |x| < 2^51: adding 1.5 * 2^52 leaves no bits for a fraction.
ORCH_ANYWHERE Real nearest_integer(Real x) { return x + 0x1.8p52 - 0x1.8p52; }

// --- pairs: the classical error-free sums and products (Dekker 1971, Knuth)

ORCH_ANYWHERE Pair sum(Real a, Real b) {
  const Real s = a + b, of_b = s - a;
  return {s, (a - (s - of_b)) + (b - of_b)};
}
/// a + b, exact as a pair, if |a| >= |b| or a = 0.
ORCH_ANYWHERE Pair ordered_sum(Real a, Real b) {
  const Real s = a + b;
  return {s, b - (s - a)};
}
/// Splits a into its upper 26 bits and the rest.
ORCH_ANYWHERE Pair split(Real a) {
  const Real c = a * 0x1.0000002p27, hi = c - (c - a);
  return {hi, a - hi};
}
ORCH_ANYWHERE Pair product(Real a, Real b) {
  const Pair x = split(a), y = split(b);
  const Real p = a * b;
  return {p, ((x.hi * y.hi - p) + x.hi * y.lo + x.lo * y.hi) + x.lo * y.lo};
}
ORCH_ANYWHERE Pair operator+(Pair a, Pair b) {
  const Pair high = sum(a.hi, b.hi), low = sum(a.lo, b.lo);
  const Pair s = ordered_sum(high.hi, high.lo + low.hi);
  return ordered_sum(s.hi, s.lo + low.lo);
}
ORCH_ANYWHERE Pair operator-(Pair a) { return {-a.hi, -a.lo}; }
ORCH_ANYWHERE Pair operator-(Pair a, Pair b) { return a + -b; }
ORCH_ANYWHERE Pair operator*(Pair a, Pair b) {
  const Pair p = product(a.hi, b.hi);
  return ordered_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}
ORCH_ANYWHERE Pair operator/(Pair a, Pair b) {
  const Real q = a.hi / b.hi;
  const Pair rest = a - b * Pair{q, 0};
  return ordered_sum(q, rest.hi / b.hi);
}

/// a + b, if |a.hi| >= |b.hi| or a = 0.
ORCH_ANYWHERE Pair ordered_sum(Pair a, Pair b) {
  const Pair s = ordered_sum(a.hi, b.hi);
  return ordered_sum(s.hi, s.lo + (a.lo + b.lo));
}

/// leading[0] + leading[1] x + ... + x^Leading (tail[0] + tail[1] x + ...). The tail is summed in plain
/// doubles: it is too small for its errors to matter. The terms must decrease in magnitude.
template <int Leading, int Tail>
ORCH_ANYWHERE Pair polynomial(const Pair (&leading)[Leading], const double (&tail)[Tail], Pair x) {
  Real rest = tail[Tail - 1];
  for (int i = Tail - 2; i >= 0; --i) rest = rest * x.hi + tail[i];
  Pair p{rest, 0};
  for (int i = Leading - 1; i >= 0; --i) p = ordered_sum(leading[i], p * x);
  return p;
}

// --- exponential

/// exp(x) = p 2^k.
ORCH_ANYWHERE Pair exp_of(Pair x, int& k) {
  // 1 / n!
  static constexpr Pair leading[] = {{1, 0},
                                     {1, 0},
                                     {0.5, 0},
                                     {1.0 / 6, 0x1.5555555555555p-57},
                                     {1.0 / 24, 0x1.5555555555555p-59},
                                     {1.0 / 120, 0x1.1111111111111p-63}};
  static constexpr double tail[] = {1.0 / 720,           1.0 / 5040,           1.0 / 40320,
                                    1.0 / 362880,        1.0 / 3628800,        1.0 / 39916800,
                                    1.0 / 479001600,     1.0 / 6227020800,     1.0 / 87178291200,
                                    1.0 / 1307674368000, 1.0 / 20922789888000, 1.0 / 355687428096000};
  const Real whole = nearest_integer(x.hi * 0x1.71547652b82fep+0);  // 1 / ln 2
  k = static_cast<int>(whole.value);
  // ln 2 in three parts: products with the first two are exact, and so is the difference.
  const Real rest = x.hi - whole * 0x1.62e42fefa2p-1;
  const Pair r = sum(rest, -(whole * 0x1.9ef35793c6p-41)) + sum(x.lo, -(whole * 0x1.673007e5ed5e8p-81));
  return polynomial(leading, tail, r);
}
ORCH_ANYWHERE double exp_rounded(Pair x) {
  if (!(x.hi > -746)) return x.hi < 0 ? 0 : not_a_number();
  if (x.hi > 710) return infinity();
  int k;
  const Real p = exp_of(x, k).hi;
  const int half = k / 2;  // 2^k itself may overflow or underflow
  return (p * power_of_two(half) * power_of_two(k - half)).value;
}
ORCH_ANYWHERE double exp(double x) { return exp_rounded({x, 0}); }

/// 10000^x, for the frequencies of positions and timesteps.
ORCH_ANYWHERE double power_of_10000(double x) {
  return exp_rounded(Pair{x, 0} * Pair{0x1.26bb1bbb55516p+3, -0x1.f48ad494ea3e9p-51});  // ln 10000
}

// --- logarithm

ORCH_ANYWHERE double log(double x) {
  // log m = 2 artanh s = 2 s (1 + s^2 / 3 + s^4 / 5 + ...), s = (m - 1) / (m + 1)
  static constexpr Pair leading[] = {
      {1, 0}, {1.0 / 3, 0x1.5555555555555p-56}, {1.0 / 5, -0x1.999999999999ap-57}};
  static constexpr double tail[] = {1.0 / 7,  1.0 / 9,  1.0 / 11, 1.0 / 13, 1.0 / 15, 1.0 / 17,
                                    1.0 / 19, 1.0 / 21, 1.0 / 23, 1.0 / 25, 1.0 / 27, 1.0 / 29};
  if (!(x > 0)) return x == 0 ? -infinity() : not_a_number();
  if (x == infinity()) return x;
  int exponent = -1023;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    exponent -= 54;
  }
  const uint64_t bits = to_bits(x);
  exponent += static_cast<int>(bits >> 52);
  double m = from_bits((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const Pair s = Pair{m - 1, 0} / sum(m, 1);
  const Pair twice{s.hi + s.hi, s.lo + s.lo};
  const Real e = exponent;
  // ln 2 in three parts: products with the first two are exact.
  const Pair whole = sum(e * 0x1.62e42fefa2p-1, e * 0x1.9ef35793c6p-41) + Pair{e * 0x1.673007e5ed5e8p-81, 0};
  return (whole + twice * polynomial(leading, tail, s * s)).hi.value;
}

// --- sine and cosine

struct SineCosine {
  Pair sine, cosine;
};

/// Sine and cosine of x, |x| not much above pi / 4.
ORCH_ANYWHERE SineCosine small_sine_cosine(Pair x) {
  // (-1)^n / (2n + 1)! and (-1)^n / (2n)!
  static constexpr Pair of_sine[] = {{1, 0},
                                     {-1.0 / 6, -0x1.5555555555555p-57},
                                     {1.0 / 120, 0x1.1111111111111p-63},
                                     {-1.0 / 5040, -0x1.a01a01a01a01ap-73}};
  static constexpr double sine_tail[] = {1.0 / 362880,
                                         -1.0 / 39916800,
                                         1.0 / 6227020800,
                                         -1.0 / 1307674368000,
                                         1.0 / 355687428096000,
                                         -1.0 / 121645100408832000,
                                         1.0 / 51090942171709440000.0};
  static constexpr Pair of_cosine[] = {
      {1, 0}, {-0.5, 0}, {1.0 / 24, 0x1.5555555555555p-59}, {-1.0 / 720, 0x1.f49f49f49f49fp-65}};
  static constexpr double cosine_tail[] = {1.0 / 40320,
                                           -1.0 / 3628800,
                                           1.0 / 479001600,
                                           -1.0 / 87178291200,
                                           1.0 / 20922789888000,
                                           -1.0 / 6402373705728000,
                                           1.0 / 2432902008176640000,
                                           -1.0 / 1124000727777607680000.0};
  const Pair square = x * x;
  return {x * polynomial(of_sine, sine_tail, square), polynomial(of_cosine, cosine_tail, square)};
}

constexpr double kLargestAngle = 1e6;

struct Angle {
  Pair rest;  ///< from -pi / 4 to pi / 4
  int quarters;
};

/// |x| <= kLargestAngle: x = rest + quarters pi / 2.
ORCH_ANYWHERE Angle reduce(Real x) {
  const Real quarters = nearest_integer(x * 0x1.45f306dc9c883p-1);  // 2 / pi
  // pi / 2 in parts of 33 bits, so that products with integers up to 2^20 are exact. The first difference is
  // exact, too.
  const Real rest = x - quarters * 0x1.921fb544p+0;
  return {sum(rest, -(quarters * 0x1.0b4611a6p-34)) +
              sum(-(quarters * 0x1.3198a2ep-69), -(quarters * 0x1.b839a252049c1p-104)),
          static_cast<int>(quarters.value)};
}
/// Turns sine and cosine of the reduced angle into those of the original one, `quarters` quarter turns
/// further.
template <class T>
ORCH_ANYWHERE void turn(int quarters, T& sine, T& cosine) {
  const T s = sine, c = cosine;
  sine = quarters & 1 ? c : s;
  cosine = quarters & 1 ? s : c;
  if (quarters & 2) sine = -sine;
  if ((quarters + 1) & 2) cosine = -cosine;
}
ORCH_ANYWHERE SineCosine sine_cosine_of(double x) {
  const Angle angle = reduce(x);
  SineCosine of = small_sine_cosine(angle.rest);
  turn(angle.quarters, of.sine, of.cosine);
  return of;
}

/// Sine and cosine together. NaN for infinities and beyond kLargestAngle, where the reduction is not exact.
ORCH_ANYWHERE void sine_cosine(double x, double& sine, double& cosine) {
  if (!(magnitude(x) <= kLargestAngle)) {
    sine = cosine = not_a_number();
    return;
  }
  const SineCosine of = sine_cosine_of(x);
  sine = magnitude(x) < 0x1p-27 ? x : of.sine.hi.value;  // keeps -0
  cosine = of.cosine.hi.value;
}
/// The same with results in single precision, ten times as fast, because the series are summed in doubles.
ORCH_ANYWHERE void sine_cosine(double x, float& sine, float& cosine) {
  if (!(magnitude(x) <= kLargestAngle)) {
    sine = cosine = static_cast<float>(not_a_number());
    return;
  }
  const Angle angle = reduce(x);
  const Real r = angle.rest.hi, z = r * r;
  Real s = 1.0 / 6227020800, c = -1.0 / 87178291200;
  s = s * z - 1.0 / 39916800;
  c = c * z + 1.0 / 479001600;
  s = s * z + 1.0 / 362880;
  c = c * z - 1.0 / 3628800;
  s = s * z - 1.0 / 5040;
  c = c * z + 1.0 / 40320;
  s = s * z + 1.0 / 120;
  c = c * z - 1.0 / 720;
  s = s * z - 1.0 / 6;
  c = c * z + 1.0 / 24;
  c = c * z - 0.5;
  s = r + r * z * s;
  c = c * z + 1;
  turn(angle.quarters, s, c);
  sine = static_cast<float>(s.value);
  cosine = static_cast<float>(c.value);
}
ORCH_ANYWHERE double sin(double x) {
  double sine, cosine;
  sine_cosine(x, sine, cosine);
  return sine;
}
ORCH_ANYWHERE double cos(double x) {
  double sine, cosine;
  sine_cosine(x, sine, cosine);
  return cosine;
}
ORCH_ANYWHERE double tan(double x) {
  if (!(magnitude(x) <= kLargestAngle)) return not_a_number();
  if (magnitude(x) < 0x1p-27) return x;
  const SineCosine of = sine_cosine_of(x);
  return (of.sine / of.cosine).hi.value;
}

/// The angle of the point (x, y), from -pi to pi. Each coordinate must be 0 or have a magnitude from 2^-400
/// to 2^400. NaN for infinities.
ORCH_ANYWHERE double atan2(double y, double x) {
  const double a = magnitude(y), b = magnitude(x);
  if (!(a < infinity() && b < infinity())) return not_a_number();
  const bool left = to_bits(x) >> 63, below = to_bits(y) >> 63, steep = a > b;
  Pair angle{0, 0};
  if (a > 0) {
    // A first guess, off by less than 3e-3, plus the remaining angle, which is the arc tangent of the point
    // rotated back by the guess.
    const Real low = steep ? b : a, high = steep ? a : b, q = low / high, square = q * q;
    const Pair guess{q * (square * (square * 0.0854 - 0.3) + 1), 0};
    const SineCosine of = small_sine_cosine(guess);
    const Pair across = Pair{low, 0} * of.cosine - Pair{high, 0} * of.sine,
               along = Pair{high, 0} * of.cosine + Pair{low, 0} * of.sine, d = across / along;
    const Real square_of_d = d.hi * d.hi;
    angle = guess + d +
            Pair{d.hi * square_of_d * (square_of_d * (square_of_d * (-1.0 / 7) + 1.0 / 5) - 1.0 / 3), 0};
  }
  if (steep) angle = Pair{0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54} - angle;  // pi / 2
  if (left) angle = Pair{0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53} - angle;   // pi
  return below ? -angle.hi.value : angle.hi.value;
}

// --- normal numbers

/// Two independent standard normal numbers from two uniform ones in (0, 1), by the Box-Muller transform.
ORCH_ANYWHERE void normal_pair(double u1, double u2, double& x, double& y) {
  const double radius = __builtin_sqrt(-2 * log(u1));
  double sine, cosine;
  sine_cosine(0x1.921fb54442d18p+2 * u2, sine, cosine);  // 2 pi
  x = radius * cosine;
  y = radius * sine;
}

// --- integer powers

ORCH_ANYWHERE Pair power_of(double x, int64_t n) {
  Pair result{1, 0};
  for (Pair square{x, 0}; n > 0; n >>= 1, square = square * square)
    if (n & 1) result = result * square;
  return result;
}
/// x^n for 0 <= x <= 1 and n >= 0. Repeated squaring doubles the error with each bit of n: for n = 10^7, 80
/// of the pair's bits are correct.
ORCH_ANYWHERE double power(double x, int64_t n) { return power_of(x, n).hi.value; }
/// 1 - x^n, rounded once.
ORCH_ANYWHERE double one_minus_power(double x, int64_t n) { return (Pair{1, 0} - power_of(x, n)).hi.value; }

}  // namespace orch::elementary
