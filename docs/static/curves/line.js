// Data on a line whose sampling curves are known exactly, and the solvers of chapter 14 (diffnotes/book/proof/line.py). States are
// x_t / a, noise levels b / a, and a path is a list with the states at each level.
import { below, linspace, reach, sum } from "./numbers.js";

// E[x_0 | x_t / a = x] for a mixture of Gaussians of one standard deviation (eq. 4.8)
export function predict({ means, weights, sd }, x, level) {
  const variance = sd ** 2 + level ** 2;
  const nearest = Math.min(...means.map((m) => (x - m) ** 2));
  let [total, away] = [0, 0];
  for (let k = 0; k < means.length; k++) {
    const share = weights[k] * Math.exp((nearest - (x - means[k]) ** 2) / (2 * variance));
    total += share;
    away += share * (x - means[k]);
  }
  return x - ((level ** 2 / variance) * away) / total;
}

// Where so many exact curves are at a noise level: each keeps the share of the distribution that lies below it (eq. 14.1)
export function curves({ means, weights, sd }, number, level) {
  const spread = Math.sqrt(sd ** 2 + level ** 2);
  const cdf = (x) => sum(means.map((m, k) => weights[k] * below((x - m) / spread)));
  const [low, high] = [Math.min(...means) - 9 * spread, Math.max(...means) + 9 * spread];
  return Array.from({ length: number }, (_, i) => reach(cdf, (i + 0.5) / number, low, high));
}

// Falling levels of Karras et al. (eq. 14.8), and 0; rho = Infinity: even in lambda
export function karras(steps, rho, highest, lowest) {
  const shares = Array.from({ length: steps }, (_, i) => i / Math.max(1, steps - 1));
  const level = (share) =>
    rho === Infinity
      ? highest * (lowest / highest) ** share
      : (highest ** (1 / rho) + share * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho;
  return [...shares.map(level), 0];
}

// r = h' / h, the step before in units of this one (eq. 14.5)
export const ratioOfSteps = (before, now, then) => (now - before) / (then - now);

// DDIM (order 1) or 2M (order 2); with noise, the stochastic form (eq. 14.5 and 14.12). The step to level 0 is of first order.
export function dpmSolver(data, levels, start, order = 2, ratio = ratioOfSteps, noise = null) {
  const path = [start];
  const lambda = levels.map((level) => -Math.log(Math.max(level, 1e-300)));
  let before;
  for (let i = 0; i < levels.length - 1; i++) {
    const [level, there] = [levels[i], levels[i + 1]];
    const hats = path[i].map((x) => predict(data, x, level));
    const second = order === 2 && i > 0 && there > 0;
    const r = second ? ratio(lambda[i - 1], lambda[i], lambda[i + 1]) : 1;
    const shrink = there / level; // e^(-h)
    path.push(
      path[i].map((x, k) => {
        const D = second ? hats[k] + (hats[k] - before[k]) / (2 * r) : hats[k];
        if (noise === null) return shrink * x + (1 - shrink) * D;
        return shrink ** 2 * x + (1 - shrink ** 2) * D + there * Math.sqrt(1 - shrink ** 2) * noise[i][k];
      }),
    );
    before = hats;
  }
  return path;
}

// Heun's method, two calls a step and one in the step to level 0 (eq. 14.6)
export function heun(data, levels, start) {
  const path = [start];
  for (let i = 0; i < levels.length - 1; i++) {
    const [level, there] = [levels[i], levels[i + 1]];
    path.push(
      path[i].map((x) => {
        const slope = (x - predict(data, x, level)) / level;
        if (there === 0) return x + (there - level) * slope;
        const arrived = x + (there - level) * slope;
        return x + ((there - level) * (slope + (arrived - predict(data, arrived, there)) / there)) / 2;
      }),
    );
  }
  return path;
}

// Paths of the reverse equation for any lambda, in even steps of the cosine schedule's time (eq. 13.14)
export function reverse(data, lambda, steps, start, first, noise) {
  const times = linspace(first, 0, steps + 1);
  const levels = times.map((time) => Math.tan((time * Math.PI) / 2));
  let x = start.map((one) => one / Math.cos((first * Math.PI) / 2));
  const path = [start];
  for (let i = 0; i < steps; i++) {
    const shrink = levels[i + 1] / levels[i];
    const fresh = levels[i + 1] * Math.sqrt(1 - shrink ** (2 * lambda ** 2));
    x = x.map((one, k) => {
      const x_0 = predict(data, one, levels[i]);
      const kept = x_0 + shrink ** (1 + lambda ** 2) * (one - x_0);
      return lambda > 0 ? kept + fresh * noise[i][k] : kept;
    });
    path.push(x.map((one) => Math.cos((times[i + 1] * Math.PI) / 2) * one));
  }
  return { path, times };
}
