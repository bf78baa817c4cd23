/** Densities from which t is drawn (SD3 paper, section 3.1; t = 0 is data, t = 1 is noise). */
import { elementary } from '../native/elementary.js';
import { normalPair } from '../random/philox.js';
import { normalPdf } from './normal.js';

export interface Density {
  /** Draws t in [0, 1] from two independent uniforms in (0, 1). */
  draw(u1: number, u2: number): number;
  /** The probability density at t, which may be infinite at 0 and 1. */
  pdf(t: number): number;
}

export const uniform: Density = { draw: (u) => u, pdf: () => 1 };

/** t = sigmoid(u), u ~ N(m, s^2), s > 0: a positive m favours noise (paper, equation 19). */
export function lognorm(m: number, s: number): Density {
  return {
    draw: (u1, u2) => 1 / (1 + elementary().exp(-(m + s * normalPair(u1, u2)[0]))),
    pdf: (t) => normalPdf((elementary().log(t / (1 - t)) - m) / s) / (s * t * (1 - t)),
  };
}

/** Largest s for which f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is monotonic. */
export const MODE_LIMIT = 2 / (Math.PI - 2);

/**
 * t = f(u), u uniform, for -1 <= s <= MODE_LIMIT: s > 0 favours the middle, s < 0 the ends (paper, equation
 * 20).
 */
export function mode(s: number): Density {
  const f = (u: number) => {
    const cosine = elementary().cos((Math.PI / 2) * u);
    return 1 - u - s * (cosine * cosine - 1 + u);
  };
  return {
    draw: f,
    pdf(t) {
      // f falls from 1 to 0; the density is 1 / |f'| where f(u) = t, which bisection finds.
      let [low, high] = [0, 1];
      for (let i = 0; i < 60; i++) {
        const middle = (low + high) / 2;
        if (f(middle) > t) low = middle;
        else high = middle;
      }
      // Exactly 0 at the ends, where the density of s = -1 is infinite.
      const sine = t <= 0 || t >= 1 ? 0 : elementary().sin(Math.PI * low);
      return 1 / Math.abs(1 + s - (s * Math.PI * sine) / 2);
    },
  };
}

/** t = 1 - 1 / (tan(pi u / 2) + 1), u uniform: the log-SNR of the cosine schedule (paper, equation 21). */
export const cosmap: Density = {
  draw: (u) => 1 - 1 / (elementary().tan((Math.PI / 2) * u) + 1),
  pdf: (t) => 2 / (Math.PI - 2 * Math.PI * t + 2 * Math.PI * t * t),
};
