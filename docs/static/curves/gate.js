// A gate for walkers (chapter 2; diffnotes/book/explorers/gate.py). The posterior is computed here; the walks of 200,000 walkers
// are Python's: how many pass each gate and where they were before, and the paths of those that are drawn.
import { int16, linspace } from "./numbers.js";
import { cosine, qPosterior } from "./schedules.js";
import { f } from "./words.js";

let walks; // of each walker, at t = 0..T

export function compute({ t, x_t }, { T, x_0, line, width, walkers, drawn, few, paths, cell, before }) {
  const schedule = cosine(T);
  walks ??= rows(int16(paths), T + 1);
  const [mean, variance] = qPosterior(schedule, x_0, x_t, t); // eq. 2.7
  const top = 1 / Math.sqrt(2 * Math.PI * variance);
  const { all, gates } = before[t - 2];
  const [passed, centre, spread, first, ...some] = gates[f(x_t + 0, ".2f")];
  const edges = linspace(...line, all.counts.length + 1);
  const counts = edges.slice(1).map((_, i) => some[i - first] ?? 0);
  const bars = (numbers, total) => ({ values: numbers.map((n) => n / Math.max(total, 1) / (edges[1] - edges[0]) / top), edges });
  const x = linspace(...line, 600);
  return {
    curves: [
      through(walks, cell, t, x_t, width, drawn),
      { x: [t, t, NaN, t, t], y: [line[0], x_t - width / 2, NaN, x_t + width / 2, line[1]] },
      bars(all.counts, walkers),
      bars(counts, passed),
      { x: [0, 1.3], y: [x_t, x_t] },
      { x: x.map((at) => Math.exp(-((at - mean) ** 2) / (2 * variance))), y: x },
    ],
    reading: reading({ t, x_t, walkers, few, passed, all, centre, spread, mean, variance }),
  };
}

const rows = (flat, length) => Array.from({ length: flat.length / length }, (_, i) => flat.slice(i * length, (i + 1) * length));

// The paths of the first that pass, as one line. Places are counted in cells, of which a gate has a whole number
function through(walks, cell, t, x_t, width, drawn) {
  const [low, high] = [x_t - width / 2, x_t + width / 2].map((edge) => Math.round(edge / cell));
  const line = { x: [], y: [] };
  for (const path of walks.filter((one) => one[t] >= low && one[t] < high).slice(0, drawn)) {
    for (let time = 0; time <= t; time++) {
      line.x.push(time);
      line.y.push((path[time] + 0.5) * cell);
    }
    line.x.push(NaN);
    line.y.push(NaN);
  }
  return line;
}

function reading({ t, x_t, walkers, few, passed, all, centre, spread, mean, variance }) {
  const words =
    `The gate stands at ${f(x_t, ".2f")} at t = ${t}; ${f(passed, ",")} of ${f(walkers, ",")} walkers pass. At t = ${t - 1} all ` +
    `walkers have mean ${f(all.mean, ".3f")} and standard deviation ${f(all.spread, ".3f")}`;
  const computed = `computed: ${f(mean, ".3f")} and ${f(Math.sqrt(variance), ".3f")}`;
  if (passed < few)
    return `${words}.<br>Too few pass for a histogram: hardly any path leads there. Those of more walkers, ${computed}.`;
  return `${words},<br>those that pass ${f(centre, ".3f")} and ${f(spread, ".3f")}; ${computed}.`;
}
