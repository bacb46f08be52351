// What the bound and the simple loss weigh (chapter 4; diffnotes/book/explorers/weights.py).
import { cosine, linear, posteriorVariance } from "./schedules.js";
import { f } from "./words.js";

export function compute({ kind, target, variance, t }, { T, letters, variances, titles }) {
  const schedule = kind === "linear" ? linear(T) : cosine(T);
  const times = Array.from({ length: T }, (_, i) => i + 1);
  const errors = times.map((time) => oneError(schedule, target, time));
  const simple = errors.map(({ eps }) => eps ** 2); // eq. 4.11
  const bound = times.map((time, i) => weight(schedule, variance, time) * simple[i]); // eq. 4.12
  const curves = [bound, simple, ...Object.keys(letters).map((name) => errors.map((error) => error[name]))];
  const marker = { x: [t, t], y: [0, 1] };
  return {
    curves: [
      marker,
      marker,
      ...curves.map((y) => ({ x: times, y })),
      ...curves.map((y) => ({ x: [t], y: [y[t - 1]] })),
      ...titles[target].map((words) => ({ words })),
    ],
    reading: reading({ schedule, kind, target, variance, t, bound, simple, errors: errors[t - 1], letters, variances }),
  };
}

// How large an error of 1 in a prediction of this target is in each target: absolute values (eq. 4.5 and 4.7, x_t = 0)
function oneError({ abar }, target, t) {
  const [a, b] = [Math.sqrt(abar[t]), Math.sqrt(1 - abar[t])];
  const [x0, eps] = { eps: [-b / a, 1], x0: [1, -a / b], v: [-b, a] }[target];
  return { eps: Math.abs(eps), x0: Math.abs(x0), v: Math.abs(a * eps - b * x0) };
}

// beta_t / (2 alpha_t (1 - alpha_bar_t)) beta_t / sigma_t^2, the bound's weight of the squared error in the noise
function weight(schedule, variance, t) {
  const { beta, abar } = schedule;
  const sigma2 = variance === "beta" ? beta[t] : posteriorVariance(schedule, Math.max(t, 2)); // beta-tilde_1 = 0
  return ((beta[t] / (2 * (1 - beta[t]) * (1 - abar[t]))) * beta[t]) / sigma2;
}

function reading({ schedule, kind, target, variance, t, bound, simple, errors, letters, variances }) {
  const said = (curve) => {
    const [now, first] = [curve[t - 1], curve[0]];
    const ratio = now < first ? f(now / first, ".2g") : f(now / first, ".0f");
    return t === 1 ? f(now, ".3g") : `${f(now, ".3g")} (${ratio} times its factor at t = 1)`;
  };
  const sigma2 = t === 1 && variance === "beta_tilde" ? "β̃_2, since β̃_1 = 0" : variances[variance];
  const equal = target === "eps" ? `${f(simple[t - 1], ".3g")}, as at every t` : said(simple);
  const names = Object.keys(letters).filter((name) => name !== target);
  const others = names.map((name) => `${f(errors[name], ".3g")} in ${letters[name]}`).join(" and ");
  const words =
    `t = ${t}, ${kind}: before the squared error in ${letters[target]} the bound, with σ_t² = ${sigma2}, puts ` +
    `${said(bound)}; L_simple puts ${equal}.<br>An error of 1 in ${letters[target]} is an error of ${others}.`;
  if (target !== "x0" || variance !== "beta_tilde" || t === 1) return words;
  const [before, now] = [t - 1, t].map((time) => schedule.abar[time] / (1 - schedule.abar[time]));
  return `${words} The bound's factor is half of SNR(${t - 1}) - SNR(${t}) = ${f(before, ".4g")} - ${f(now, ".4g")}.`;
}
