// The schedule's curves and one image at a time t (chapter 1; diffnotes/book/explorers/schedule.py).
import * as schedules from "./schedules.js";
import { sum } from "./numbers.js";
import { f } from "./words.js";

export function compute({ kind, T, beta_1, beta_T, s, t }, { image, eps, columns }) {
  t = Math.min(t, T);
  const noise = kind === "cosine" ? schedules.cosine(T, s) : schedules[kind](T, beta_1, beta_T);
  const { beta, abar } = noise;
  const times = shown(T);
  const x = times.map((time) => time / T);
  const later = times.slice(1);
  const [a, b] = [Math.sqrt(abar[t]), Math.sqrt(1 - abar[t])];
  const values = image.map((x_0, i) => grey(a * x_0 + b * eps[i])); // eq. 1.6
  const marker = { x: [t / T, t / T], y: [0, 1] };
  return {
    curves: [
      { x, y: times.map((time) => beta[time]) },
      { x: x.slice(1), y: later.map((time) => schedules.posteriorVariance(noise, time)) },
      { x: [0, ...x], y: [1, ...times.map((time) => abar[time])] },
      { x, y: times.map((time) => Math.max(-60, Math.min(60, schedules.logSnr(noise, time)))) },
      { rows: image.length / columns, columns, values },
      marker,
      marker,
      marker,
    ],
    reading: reading(noise, image, t),
    off: kind === "cosine" ? ["beta_1", "beta_T"] : ["s"],
    most: { t: T },
  };
}

// 250 times at most
function shown(T) {
  const number = Math.min(T, 250);
  const step = (T - 1) / (number - 1);
  return [...new Set(Array.from({ length: number }, (_, i) => evenRound(i === number - 1 ? T : i * step + 1)))];
}

// 0..255, a half to the even number, as torch rounds
const grey = (x) => evenRound((Math.max(-1, Math.min(1, x)) + 1) * 127.5);

function evenRound(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

function reading({ T, abar }, image, t) {
  const d = image.length;
  const squares = sum(image.map((x_0) => x_0 ** 2));
  const kl = 0.5 * (abar[T] * squares - d * abar[T] - d * Math.log1p(-abar[T])); // eq. 1.14
  const bits = kl / Math.log(2);
  const numbers =
    `ᾱ_T = ${f(abar[T], ".2g")} · D_KL(q(x_T | x_0) ‖ N(0, I)) = ${f(bits, ".2g")} bits for the whole image · ` +
    `at t = ${t}: ᾱ_t = ${f(abar[t], ".3g")}, the image enters with weight ${f(Math.sqrt(abar[t]), ".3f")}, ` +
    `the noise with ${f(Math.sqrt(1 - abar[t]), ".3f")}.`;
  if (bits <= 1) return `${numbers}<br>The chain ends in noise: less than one bit sets x_T apart from N(0, I).`;
  const warning = "<b>⚠ The prior is missed.</b> A sampler starts from N(0, I), and this chain does not end there: ";
  return (
    `${numbers}<br><span style="color:#B04A00">${warning} ${f(bits, ".3g")} bits set the two apart. Raise T or β_T.</span>`
  );
}
