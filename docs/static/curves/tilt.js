// What guidance does to densities (chapter 9; diffnotes/book/explorers/tilt.py).
import { below, histogram, largest, linspace, logSumExp, mean, reach, sum } from "./numbers.js";
import { cosine } from "./schedules.js";
import { f } from "./words.js";

const LINE = linspace(-5, 5, 1001);
const SPACING = LINE[1] - LINE[0];
const SHOWN = LINE.slice(280, 921); // -2.2..4.2
const EDGES = linspace(-2.2, 4.2, 81);
const { T, abar } = cosine(1000);
let run; // the last scale's samples
let begin; // the quantiles of N(0, 1)

export function compute({ s, t }, data) {
  if (run?.s !== s) run = { s, states: sample(s, data) };
  const panels = [t, 0].map((time) => ({
    drawn: run.states[(time * data.steps) / T],
    right: tilted(s, time, data),
    left: noisedTilt(s, time, data),
  }));
  const end = panels[1];
  const share = end.drawn.filter((x) => x < data.border).length / end.drawn.length;
  const wanted = sum(LINE.map((x, i) => (x < data.border ? end.left[i] : 0))) * SPACING;
  const [{ drawn, right, left }] = panels;
  const centre = mean(drawn);
  const spread = Math.sqrt(mean(drawn.map((x) => (x - centre) ** 2)));
  const density = (y) => ({ x: SHOWN, y: y.slice(280, 921) });
  return {
    curves: [
      ...panels.map((panel) => bars(panel.drawn)),
      ...panels.map((panel) => density(panel.right)),
      ...panels.map((panel) => density(panel.left)),
    ],
    reading:
      `s = ${f(s, ".2f")}, t = ${t}: mean and standard deviation are ${moments(right)} for the density whose score is ` +
      `followed, ${moments(left)} for the noised tilted distribution, and ${f(centre, ".2f")} and ${f(spread, ".2f")} for ` +
      `the samples.<br>At the end ${f(100 * share, ".0f")} % of the samples are below ${data.border}; of the tilted distribution ` +
      `${f(100 * wanted, ".0f")} %.`,
  };
}

const bars = (drawn) => ({
  values: histogram(drawn, EDGES).map((count, i) => count / drawn.length / (EDGES[i + 1] - EDGES[i])),
  edges: EDGES,
});

// q(x_t) q(y|x_t)^s, normalised: the right side of eq. 9.6. Class y is all clusters but the first
function tilted(s, t, { centres, weights, sd }) {
  const variance = abar[t] * sd ** 2 + 1 - abar[t];
  const logs = LINE.map((x) => {
    const parts = centres.map((centre, k) => Math.log(weights[k]) - (x - Math.sqrt(abar[t]) * centre) ** 2 / (2 * variance));
    const everything = logSumExp(parts);
    return everything + s * (logSumExp(parts.slice(1)) - everything);
  });
  const top = largest(logs);
  return normalised(logs.map((log) => Math.exp(log - top)));
}

// The integral of q(x_t|x_0) with the normalised q(x_0) q(y|x_0)^s: the left side of eq. 9.6
function noisedTilt(s, t, data) {
  const clean = tilted(s, 0, data);
  if (t === 0) return clean;
  const near = LINE.map((_, i) => i).filter((i) => LINE[i] > -1.6 && LINE[i] < 3 && clean[i] > 1e-16); // no data elsewhere
  const [a, variance] = [Math.sqrt(abar[t]), 1 - abar[t]];
  const noised = LINE.map((x) => {
    let total = 0;
    for (const i of near) total += Math.exp(-((x - a * LINE[i]) ** 2) / (2 * variance)) * clean[i];
    return total;
  });
  return normalised(noised);
}

function normalised(density) {
  const area = sum(density) * SPACING;
  return density.map((value) => value / area);
}

function moments(density) {
  const total = sum(density);
  const centre = sum(density.map((p, i) => (p / total) * LINE[i]));
  return `${f(centre, ".2f")} and ${f(Math.sqrt(sum(density.map((p, i) => (p / total) * (LINE[i] - centre) ** 2))), ".2f")}`;
}

// The guided samples at every frame, from t = 0: DDIM (eq. 8.7) with the guided prediction (eq. 9.4), from the quantiles of N(0, 1)
function sample(s, { centres, weights, sd, steps, starts }) {
  begin ??= Array.from({ length: starts }, (_, i) => reach(below, (i + 0.5) / starts, -5, 5));
  let x = begin;
  const frames = [x];
  for (let k = steps; k > 0; k--) {
    const [t, then] = [k, k - 1].map((i) => (i * T) / steps);
    const [a, b] = [Math.sqrt(abar[t]), Math.sqrt(1 - abar[t])];
    const [c, d] = [Math.sqrt(abar[then]), Math.sqrt(1 - abar[then])];
    x = x.map((x_t) => {
      const free = predict(x_t, abar[t], centres, weights, sd, 0);
      const x_0 = free + s * (predict(x_t, abar[t], centres, weights, sd, 1) - free);
      return c * x_0 + (d * (x_t - a * x_0)) / b;
    });
    frames.push(x);
  }
  return frames.reverse();
}

// E[x_0 | x_t] for Gaussians around the centres from the first on (eq. 4.8); class y is all but centre 0
function predict(x_t, bar, centres, weights, sd, first) {
  const a = Math.sqrt(bar);
  const variance = bar * sd ** 2 + 1 - bar;
  let nearest = Infinity;
  for (let k = first; k < centres.length; k++) nearest = Math.min(nearest, (x_t - a * centres[k]) ** 2);
  let [total, expected] = [0, 0];
  for (let k = first; k < centres.length; k++) {
    const share = weights[k] * Math.exp((nearest - (x_t - a * centres[k]) ** 2) / (2 * variance));
    total += share;
    expected += share * centres[k];
  }
  expected /= total;
  return expected + ((a * sd ** 2) / variance) * (x_t - a * expected);
}
