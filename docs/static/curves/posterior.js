// Slice and multiply: one step back as Bayes' rule makes it (chapter 2; diffnotes/book/explorers/posterior.py).
import { linspace, logNormal, logSumExp, normal, largest, sum, trapezoid } from "./numbers.js";
import { cosine, fromBetas, qPosterior } from "./schedules.js";
import { f } from "./words.js";

const UNKNOWN = "unknown";
const heats = new Map();

export function compute({ t, back, x_t, start }, { T, line, starts }) {
  const schedule = cosine(T);
  const s = Math.max(1, t - back);
  const step = sliceAndMultiply(schedule, t, s, x_t, starts[start], line);
  const gaussian = step.x.map((x) => normal(x, step.mean, step.variance));
  if (!heats.has(start)) heats.set(start, heat(schedule, starts[start], line));
  const top = largest(step.posterior);
  const scaled = (values, scale) => ({ x: values.map((value) => value / scale), y: step.x });
  return {
    curves: [
      heats.get(start),
      { x: [s, s], y: line },
      { x: [t, t], y: line },
      { x: [t], y: [x_t] },
      scaled(step.prior, largest(step.prior)),
      scaled(step.likelihood, largest(step.likelihood)),
      scaled(step.posterior, top),
      start === UNKNOWN ? scaled(gaussian, top) : null,
    ],
    reading: reading(schedule, step, t, s, x_t, start, starts),
  };
}

// q(x_s | x_t) (eq. 2.12), or q(x_s | x_t, x_0) (eq. 2.11): prior times likelihood, scaled to a density
function sliceAndMultiply(schedule, t, s, x_t, values, line) {
  const before = schedule.abar[s];
  const alpha = schedule.abar[t] / schedule.abar[s];
  const bells = values.map((x_0) => [Math.sqrt(before) * x_0, 1 - before]);
  const there = [[x_t / Math.sqrt(alpha), (1 - alpha) / alpha], ...values.map((x_0) => qPosterior(schedule, x_0, x_t, t, s))];
  const z = linspace(-7, 7, 701);
  const fine = [...bells, ...there].flatMap(([centre, variance]) => z.map((one) => centre + Math.sqrt(variance) * one));
  const x = [...new Set([...linspace(...line, 400), ...fine])].sort((p, q) => p - q);
  const logPrior = x.map((one) => logSumExp(bells.map((bell) => logNormal(one, ...bell))) - Math.log(bells.length));
  const logLikelihood = x.map((one) => logNormal(x_t, Math.sqrt(alpha) * one, 1 - alpha));
  const product = logPrior.map((log, i) => log + logLikelihood[i]);
  const top = largest(product);
  const unscaled = product.map((log) => Math.exp(log - top));
  const area = trapezoid(unscaled, x);
  const posterior = unscaled.map((value) => value / area);
  const mean = trapezoid(posterior.map((p, i) => x[i] * p), x);
  const variance = trapezoid(posterior.map((p, i) => (x[i] - mean) ** 2 * p), x);
  return { x, prior: logPrior.map(Math.exp), likelihood: logLikelihood.map(Math.exp), posterior, mean, variance };
}

// q(x_t), each time in shares of its highest
function heat({ T, abar }, values, line) {
  const x = linspace(...line, 240);
  const pixels = new Array(240 * T);
  for (let t = 1; t <= T; t++) {
    const a = Math.sqrt(abar[t]);
    const column = x.map((one) => sum(values.map((x_0) => Math.exp(-((one - a * x_0) ** 2) / (2 * (1 - abar[t]))))));
    const top = largest(column);
    column.forEach((value, row) => (pixels[row * T + t - 1] = (value / top) ** 0.7));
  }
  return { rows: 240, columns: T, values: pixels };
}

function reading(schedule, step, t, s, x_t, start, starts) {
  const [before, now] = [schedule.abar[s], schedule.abar[t]];
  const alpha = now / before;
  const where =
    `From t = ${t} back to s = ${s} (ᾱ_s = ${f(before, ".3f")}, and from there one step with β = ${f(1 - alpha, ".3f")}): `;
  if (start === UNKNOWN) {
    const coin = coinStep(before, 1 - alpha, x_t);
    const [minus, plus] = coin.shares.map((share) => `${f(100 * share, ".1f")} %`);
    const far = coin.kl < 1e-10 ? "less than 1e-10" : f(coin.kl, ".2g");
    return (
      `${where}given x_t, x_0 is -1 with ${minus} and +1 with ${plus}. The product has ${humps(step.posterior)}, mean ` +
      `${f(Number(f(step.mean, ".3f")) + 0, ".3f")} and variance ${f(step.variance, ".3g")}; its divergence from the Gaussian ` +
      `with these two is ${far} nats.`
    );
  }
  const x_0 = starts[start][0];
  const weights = [qPosterior(schedule, 0, 1, t, s)[0], qPosterior(schedule, 1, 0, t, s)[0]];
  const words =
    `${where}x_0 gives ${f(Math.sqrt(before) * x_0, ".3f")} (variance ${f(1 - before, ".3g")}), x_t gives ` +
    `${f(x_t / Math.sqrt(alpha), ".3f")} (variance ${f((1 - alpha) / alpha, ".3g")}); together ${f(weights[0], ".3f")} x_t + ` +
    `${f(weights[1], ".3f")} x_0 = ${f(step.mean, ".3f")}, variance ${f(step.variance, ".3g")}.`;
  const eps = (x_t - Math.sqrt(now) * x_0) / Math.sqrt(1 - now);
  if (Math.abs(eps) <= 4) return words;
  return (
    `${words} <span style="color:#B04A00"><b>⚠ Hardly ever seen.</b> To come from this x_0 to this x_t takes ` +
    `ε = ${f(eps, ".1f")}; the formula holds all the same.</span>`
  );
}

function humps(y) {
  const top = largest(y);
  const maxima = y.filter((value, i) => i > 0 && i < y.length - 1 && value > y[i - 1] && value >= y[i + 1] && value > top / 1000);
  return maxima.length === 1 ? "one hump" : "two humps";
}

// The shares q(x_0 | x_t) of -1 and +1, and the divergence in nats of q(x_s | x_t) from the Gaussian of its mean and variance
function coinStep(before, beta, x_t) {
  const chain = fromBetas([1 - before, beta]);
  const a = Math.sqrt(chain.abar[2]);
  const logits = [-1, 1].map((x_0) => (a * x_t * x_0 - 0.5 * a ** 2) / (1 - chain.abar[2]));
  const shares = logits.map((logit) => Math.exp(logit - logSumExp(logits)));
  const parts = [-1, 1].map((x_0) => qPosterior(chain, x_0, x_t, 2));
  const [means, narrow] = [parts.map(([mean]) => mean), parts[0][1]];
  const mean = sum(means.map((m, i) => shares[i] * m));
  const variance = narrow + sum(means.map((m, i) => shares[i] * (m - mean) ** 2));
  const grid = linspace(-9, 9, 3001).map((z) => mean + Math.sqrt(variance) * z);
  const terms = grid.map((x) => {
    const q = sum(means.map((m, i) => shares[i] * normal(x, m, narrow)));
    return q * Math.log(Math.max(q, 1e-300) / normal(x, mean, variance));
  });
  return { shares, kl: sum(terms) * (grid[1] - grid[0]) };
}
