// Noise schedules: tables for t = 0..T, entry 0 for the clean image (diffnotes/process/schedules.py).
import { linspace } from "./numbers.js";

const evenly = (start, stop, number) => (number === 1 ? [start] : linspace(start, stop, number));

// beta_t in a straight line (eq. 1.15)
export const linear = (T, beta1 = 1e-4, betaT = 0.02) => fromBetas(evenly(beta1, betaT, T));

// sqrt(beta_t) in a straight line
export const quadratic = (T, beta1, betaT) => fromBetas(evenly(Math.sqrt(beta1), Math.sqrt(betaT), T).map((root) => root ** 2));

// beta_t along the logistic curve between -6 and 6
export function sigmoid(T, beta1, betaT) {
  const curve = evenly(-6, 6, T).map((z) => 1 / (1 + Math.exp(-z)));
  return fromBetas(curve.map((value) => beta1 + ((value - curve[0]) / (curve.at(-1) - curve[0])) * (betaT - beta1)));
}

// alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2), beta_t <= 0.999 (eq. 1.16)
export function cosine(T, s = 0.008) {
  const value = (t) => Math.cos((((t / T + s) / (1 + s)) * Math.PI) / 2) ** 2;
  return fromBetas(Array.from({ length: T }, (_, i) => Math.min(0.999, 1 - value(i + 1) / value(i))));
}

// alpha_bar_t = (1 - beta_1) ... (1 - beta_t) (eq. 1.4)
export function fromBetas(betas) {
  const beta = [0, ...betas];
  const abar = [1];
  for (let t = 1; t < beta.length; t++) abar.push(abar[t - 1] * (1 - beta[t]));
  return { T: betas.length, beta, abar };
}

// beta-tilde_t, the variance of q(x_{t-1} | x_t, x_0) (eq. 2.4)
export const posteriorVariance = ({ beta, abar }, t) => ((1 - abar[t - 1]) / (1 - abar[t])) * beta[t];

// log SNR(t) (eq. 1.12)
export const logSnr = ({ abar }, t) => Math.log(abar[t]) - Math.log1p(-abar[t]);

// Mean and variance of q(x_s | x_t, x_0), s < t (eq. 2.11; for s = t - 1, eq. 2.7)
export function qPosterior({ beta, abar }, x_0, x_t, t, s = t - 1) {
  const alpha = abar[t] / abar[s];
  const noise = s === t - 1 ? beta[t] : 1 - alpha;
  const mean = ((Math.sqrt(alpha) * (1 - abar[s])) / (1 - abar[t])) * x_t + ((Math.sqrt(abar[s]) * noise) / (1 - abar[t])) * x_0;
  return [mean, ((1 - abar[s]) / (1 - abar[t])) * noise];
}
