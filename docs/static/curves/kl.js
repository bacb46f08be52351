// Two bells and their KL divergence (appendix A; diffnotes/book/explorers/gaussians.py).
import { largest, linspace, logNormal, trapezoid } from "./numbers.js";
import { f } from "./words.js";

export function compute({ mu_1, sigma_1, mu_2, sigma_2 }, { reach, highest }) {
  const wide = linspace(-3 * reach, 3 * reach, 1801); // beyond the picture, for the areas
  const shown = (values) => values.slice(600, 1201);
  const log_q = wide.map((x) => logNormal(x, mu_1, sigma_1 ** 2));
  const log_p = wide.map((x) => logNormal(x, mu_2, sigma_2 ** 2));
  const values = wide.map((_, i) => Math.exp(log_q[i]) * (log_q[i] - log_p[i])); // q log(q / p)
  const up = values.map((value) => Math.max(value, 0));
  const down = values.map((value) => Math.min(value, 0));
  const x = shown(wide);
  const areas = `${f(trapezoid(up, wide), ".3f")} nats counted up, ${f(-trapezoid(down, wide), ".3f")} counted down`;
  const outside = largest(shown(values)) > highest ? ". The curve leaves the picture" : "";
  return {
    curves: [
      { x, y: shown(log_q).map(Math.exp) },
      { x, y: shown(log_p).map(Math.exp) },
      area(x, shown(up)),
      area(x, shown(down)),
      { x, y: shown(values) },
    ],
    reading: `${reading(mu_1, sigma_1, mu_2, sigma_2)}<br>The integral: ${areas}${outside}.`,
  };
}

// Between a curve and zero
const area = (x, values) => ({ corners: [[x[0], 0], ...x.map((at, i) => [at, values[i]]), [x.at(-1), 0]] });

// D_KL(N(mu_1, sigma_1^2) || N(mu_2, sigma_2^2)) in nats (eq. A.13)
const divergence = (mu_1, sigma_1, mu_2, sigma_2) =>
  0.5 * (Math.log(sigma_2 ** 2 / sigma_1 ** 2) + (sigma_1 ** 2 + (mu_1 - mu_2) ** 2) / sigma_2 ** 2 - 1);

function reading(mu_1, sigma_1, mu_2, sigma_2) {
  const [forward, backward] = [divergence(mu_1, sigma_1, mu_2, sigma_2), divergence(mu_2, sigma_2, mu_1, sigma_1)];
  const numbers = `D_KL(q ‖ p) = ${f(forward, ".3f")} nats · D_KL(p ‖ q) = ${f(backward, ".3f")} nats · `;
  if (Math.max(forward, backward) < 1e-9) return `${numbers}the two distributions are the same.`;
  if (Math.abs(sigma_1 - sigma_2) < 1e-9)
    return `${numbers}equal standard deviations: half the squared distance of the means over σ², and the same both ways.`;
  if (Math.abs(mu_1 - mu_2) < 1e-9)
    return `${numbers}equal means: what counts is u = σ_1²/σ_2² = ${f((sigma_1 / sigma_2) ** 2, ".2f")}.`;
  return `${numbers}the order of the two distributions matters.`;
}
