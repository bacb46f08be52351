// Every road from noise (chapter 13; diffnotes/book/explorers/roads.py). The paths are computed here; the ends of 4,000 of them, by
// which the histogram is drawn, would take 800,000 draws: their counts come from Python.
import { curves, reverse } from "./line.js";
import { oneLine, sum } from "./numbers.js";
import { f } from "./words.js";

let starts;

export function compute({ lam, steps }, { mixture, first, paths, noise, edges, ends, many, byChance }) {
  const a = Math.cos((first * Math.PI) / 2);
  starts ??= curves(mixture, paths, Math.tan((first * Math.PI) / 2)).map((x) => a * x);
  const { path, times } = reverse(mixture, lam, steps, starts, first, noise);
  const each = starts.map((_, k) => path.map((row) => row[k]));
  const [distance, ...counts] = ends[`${f(lam, ".1f")} ${steps}`];
  const total = sum(counts);
  const share = counts.map((count, i) => count / total / (edges[i + 1] - edges[i]));
  const names = { 0: "the probability-flow ODE, no noise at all", 1: "the reverse-time SDE" };
  return {
    curves: [
      oneLine(times, each),
      oneLine(times, [4, 11, 19].map((k) => each[k])),
      { x: share.flatMap((value) => [value, value]), y: edges.flatMap((edge) => [edge, edge]).slice(1, -1) },
    ],
    reading:
      `λ = ${f(lam, "g")} (${names[lam] ?? "between or beyond the two"}), ${steps} steps. ${f(many, ",")} ends, in their order, ` +
      `are ${f(distance, ".3f")} away on average from where the data have them; as many draws from the data themselves: ` +
      `${f(byChance, ".3f")}.`,
  };
}
