// Two humps, to a bell and back (appendix A; diffnotes/book/explorers/humps.py).
import { linspace, logNormal, normal, sum, trapezoid } from "./numbers.js";
import { f } from "./words.js";

export function compute({ b }, { humps, spread, x_0, eps, draws, reach }) {
  const grid = linspace(-2 * reach, 2 * reach, 1281);
  const x = grid.slice(320, 961);
  const a = Math.sqrt(1 - b ** 2);
  const total = a ** 2 * spread ** 2 + b ** 2; // the variance of each noisy hump (eq. A.5)
  const parts = humps.map(([share, centre]) => grid.map((at) => share * normal(at, a * centre, total)));
  const q = grid.map((_, i) => sum(parts.map((part) => part[i])));
  const kl = trapezoid(q.map((value, i) => value * (Math.log(Math.max(value, 1e-300)) - logNormal(grid[i], 0, 1))), grid); // eq. A.11
  const shown = q.slice(320, 961);
  const step = lookBack(a, b, { humps, spread, x_0, eps });
  const { x_t, log_q, score, mean } = step;
  return {
    curves: [
      { lines: draws.map(([from, noise]) => [[from, 2], [a * from, 1], [a * from + b * noise, 0]]) },
      { x: [x_0, a * x_0, x_t], y: [2, 1, 0] },
      ...parts.map((part) => ({ x, y: part.slice(320, 961) })),
      { x, y: shown },
      { x: [x_t], y: [0] },
      { x, y: shown.map(Math.log) },
      { x: [x_t - 0.9, x_t + 0.9], y: [log_q - 0.9 * score, log_q + 0.9 * score] },
      { x: [x_t], y: [log_q] },
      { x: [b], y: [kl] },
      { x, y: x.map((at) => normal(x_t, a * at, b ** 2)) },
      { x, y: x.map((at) => sum(step.weights.map((weight, i) => weight * normal(at, step.means[i], step.variance)))) },
      { x: [mean, mean], y: [0, 2.6] },
    ],
    reading:
      `b = ${f(b, ".2f")} and a = ${f(a, ".2f")}, so that a² + b² = 1. The red draw: x_t = ${f(a, ".2f")} × ${f(x_0, ".2f")} + ` +
      `${f(b, ".2f")} × (${f(eps, ".2f")}) = ${f(x_t, ".2f")}. KL divergence from the bell: ${f(kl, ".3f")} nats.<br>From x_t ` +
      `alone: slope of log q ${f(score, ".2f")}; x_0 is from the right hump with probability ${f(step.weights[1], ".0%")}, and ` +
      `its mean is ${f(mean, ".2f")}. (It was ${f(x_0, ".2f")}.)`,
  };
}

// The way back from x_t: each hump has its posterior (eq. A.7), and its weight is its share times the evidence
function lookBack(a, b, { humps, spread, x_0, eps }) {
  const x_t = a * x_0 + b * eps;
  const variance = 1 / (1 / spread ** 2 + a ** 2 / b ** 2);
  const means = humps.map(([, centre]) => variance * (centre / spread ** 2 + (a * x_t) / b ** 2));
  const total = a ** 2 * spread ** 2 + b ** 2;
  const joint = humps.map(([share, centre]) => share * normal(x_t, a * centre, total));
  const weights = joint.map((part) => part / sum(joint));
  const score = sum(humps.map(([, centre], i) => (weights[i] * (a * centre - x_t)) / total)); // eq. A.9
  const mean = sum(means.map((m, i) => weights[i] * m)); // eq. A.19
  return { x_t, log_q: Math.log(sum(joint)), score, variance, means, weights, mean };
}
