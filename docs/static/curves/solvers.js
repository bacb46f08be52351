// A race of the solvers (chapter 14; diffnotes/book/explorers/solvers.py). The error of SDE-2M is that of a distribution, of 1,000
// paths with fresh noise: those errors come from Python, all else is computed here.
import { curves, dpmSolver, heun, karras, ratioOfSteps } from "./line.js";
import { mean, oneLine } from "./numbers.js";
import { cosine } from "./schedules.js";
import { f } from "./words.js";

const schedule = cosine(1000);
const known = new Map();

export function compute({ solver, calls, grid, rho }, data) {
  const where = grid === "karras" ? `karras ${rho}` : grid;
  const { path, levels } = run(solver, calls, where, data);
  const x = levels.map((level) => Math.max(level, data.zero));
  const seen = path.map((row, i) => row.map((one) => one / Math.sqrt(1 + levels[i] ** 2))); // x_t = a (x_t / a)
  const each = path[0].map((_, k) => seen.map((row) => row[k]));
  const { colour } = data.looks[solver];
  const lines = Object.keys(data.looks).map((name) => {
    if (name === "SDE-2M" && solver !== name) return null;
    const counts = data.counts.map((count) => cost(name, count));
    return { x: counts, y: data.counts.map((count) => error(name, count, where, data)), width: name === solver ? 2.6 : 1.2 };
  });
  const off = error(solver, calls, where, data);
  return {
    curves: [{ ...oneLine(x, each), colour }, ...lines, { x: [cost(solver, calls)], y: [off], colour }],
    reading: reading(solver, calls, where, seen.flat().some((value) => Math.abs(value) > data.height), off, data),
    off: grid === "karras" ? [] : ["rho"],
  };
}

// The calls made where so many may be: Heun's are odd, two a step but the last
const cost = (solver, calls) => (solver === "Heun" ? 2 * Math.floor((calls + 1) / 2) - 1 : calls);

function levelsOf(steps, where, { highest, lowest, start }) {
  if (where !== "t") return karras(steps, where === "lambda" ? Infinity : Number(where.split(" ")[1]), highest, lowest);
  const times = Array.from({ length: steps + 1 }, (_, i) => Math.floor((2 * i * start + steps) / (2 * steps)));
  return times.reverse().map((t) => Math.sqrt((1 - schedule.abar[t]) / schedule.abar[t]));
}

function exact(level, { mixture, paths }) {
  if (!known.has(level)) known.set(level, curves(mixture, paths, level));
  return known.get(level);
}

// The paths of x_t / a from where the exact curves begin, and the levels
function run(solver, calls, where, data) {
  const levels = levelsOf(solver === "Heun" ? (cost(solver, calls) + 1) / 2 : calls, where, data);
  const start = exact(levels[0], data);
  if (solver === "Heun") return { path: heun(data.mixture, levels, start), levels };
  if (solver === "SDE-2M") return { path: dpmSolver(data.mixture, levels, start, 2, ratioOfSteps, data.noise), levels };
  const ratio = solver === "2M" ? ratioOfSteps : (...lambdas) => 1 / ratioOfSteps(...lambdas);
  return { path: dpmSolver(data.mixture, levels, start, solver === "DDIM" ? 1 : 2, ratio), levels };
}

// The mean distance of the ends from those of the exact curves
function error(solver, calls, where, data) {
  if (solver === "SDE-2M") return data.stochastic[where][calls - data.fewest];
  const ends = run(solver, calls, where, data).path.at(-1);
  const right = exact(0, data);
  return mean(ends.map((end, i) => Math.abs(end - right[i])));
}

function reading(solver, calls, where, outside, off, { grids, paths, many, byChance }) {
  const made = cost(solver, calls);
  const steps = solver === "Heun" ? `, ${(made + 1) / 2} steps` : "";
  const [name, rho] = where.split(" ");
  const times = rho ? `Karras' grid with ρ = ${rho}` : `times ${grids[name]}`;
  const words = `${solver}${steps}, ${made} call${made > 1 ? "s" : ""}, ${times}: `;
  if (solver === "SDE-2M")
    return (
      `${words}with fresh noise in every step no path follows a curve. ${f(many, ",")} ends, in their order, are ` +
      `${f(off, ".2g")} away on average from where the data have them; as many draws from the data themselves: ` +
      `${f(byChance, ".2g")}.`
    );
  const away = `${words}the ends of the ${paths} paths are ${f(off, ".2g")} away on average from those of the exact curves.`;
  return outside ? `${away} Some of them leave the picture.` : away;
}
