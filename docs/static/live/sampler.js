// The samplers of chapters 7, 8, 14 and 22 in the page, and the path between two noises. A denoiser is predict(x_t, t, y) -> v for a batch of images, as
// Float32Array; times and tables are those that the package made (model.json).
export const PIXELS = 784;
export const NO_LABEL = 10;

// sampling: yields {t, x_t, x0_hat} from the first time down to t = 0. One formula, (14.12): eta = 0 deterministic, 1 stochastic;
// of first order DDIM and DDPM, of second order DPM-Solver++(2M). With known = {image, mask}, where the mask is 1 the image is
// put back after each step, noised to its time: the replacement method (22.3).
export async function* sample(predict, { alpha_bar }, { x_T, y, times, scale = 1, order = 1, eta = 0, draw, known }) {
  const guided = classifierFree(predict, scale);
  let [x_t, before] = [x_T, null];
  for (let i = 0; i + 1 < times.length; i++) {
    const [t, s] = [times[i], times[i + 1]];
    const x0_hat = imageFrom(await guided(x_t, t, y), x_t, alpha_bar[t]);
    yield { t, x_t, x0_hat };
    const { a, b, level } = at(alpha_bar[s]);
    const now = at(alpha_bar[t]);
    const shrink = level / now.level;
    let share = 0;
    if (order === 2 && before && s > 0)
      share = (0.5 * Math.log(now.level / level)) / Math.log(at(alpha_bar[before.t]).level / now.level);
    const [keep, take] = [(b / now.b) * shrink ** eta, a * (1 - shrink ** (1 + eta))];
    const spread = b * Math.sqrt(1 - shrink ** (2 * eta));
    const z = spread > 0 ? draw(x_t.length) : null;
    const x_s = x_t.map((x, k) => {
      const D = share ? (1 + share) * x0_hat[k] - share * before.x0_hat[k] : x0_hat[k];
      return keep * x + take * D + (z ? spread * z[k] : 0);
    });
    if (known) {
      const fresh = draw(x_s.length);
      known.mask.forEach((is, k) => is && (x_s[k] = a * known.image[k] + b * fresh[k]));
    }
    [x_t, before] = [x_s, { t, x0_hat }];
  }
  yield { t: 0, x_t, x0_hat: x_t };
}

// DDIM inversion (8.11): the same way up, from an image to the noise that leads to it
export async function* invert(predict, { alpha_bar }, { x_0, y, times }) {
  let [x_s, up] = [x_0, [...times].reverse()];
  for (let i = 0; i < up.length; i++) {
    const [s, looked] = [up[i], at(alpha_bar[Math.max(up[i], 1)])];
    const v = await predict(x_s, Math.max(s, 1), y);
    yield { t: s, x_t: x_s, x0_hat: s ? imageFrom(v, x_s, alpha_bar[s]) : x_0 };
    if (i + 1 === up.length) return;
    const [{ a, b }, there] = [at(alpha_bar[s]), at(alpha_bar[up[i + 1]])];
    x_s = x_s.map((x, k) => {
      const eps = looked.a * v[k] + looked.b * x;
      return (there.a * (x - b * eps)) / a + there.b * eps;
    });
  }
}

// spherical linear interpolation (8.15) from the noise a, at u = 0, to b, at u = 1; omega is the angle between them
export function slerp(a, b, u) {
  const dot = (p, q) => p.reduce((sum, x, k) => sum + x * q[k], 0);
  const omega = Math.acos(Math.min(1, dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))));
  if (!(omega > 1e-4)) return a.map((x, k) => (1 - u) * x + u * b[k]); // the limit, where both have one direction
  const [of_a, of_b] = [Math.sin((1 - u) * omega) / Math.sin(omega), Math.sin(u * omega) / Math.sin(omega)];
  return a.map((x, k) => of_a * x + of_b * b[k]);
}

// v_null + s (v_y - v_null), both halves in one batch (9.4)
function classifierFree(predict, scale) {
  return async (x_t, t, y) => {
    if (scale === 1 || y.every((label) => label === NO_LABEL)) return predict(x_t, t, y);
    const both = new Float32Array(2 * x_t.length);
    both.set(x_t);
    both.set(x_t, x_t.length);
    const v = await predict(both, t, [...y, ...y.map(() => NO_LABEL)]);
    return x_t.map((_, k) => v[x_t.length + k] + scale * (v[k] - v[x_t.length + k]));
  };
}

const at = (abar) => ({ a: Math.sqrt(abar), b: Math.sqrt(1 - abar), level: Math.sqrt((1 - abar) / abar) });

function imageFrom(v, x_t, abar) {
  const { a, b } = at(abar);
  return x_t.map((x, k) => a * x - b * v[k]);
}
