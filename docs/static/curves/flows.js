// Noise flows into a ring of blobs (chapter 15; diffnotes/book/explorers/flows.py).
import { mean, sum } from "./numbers.js";
import { f } from "./words.js";

export function compute({ t, steps, pairs }, { lines, eps, partners, centres, sd }) {
  const straight = [eps, partners[pairs]];
  // no two lines of the other pairs meet: each dot keeps the velocity of its pair, in one step as in fifty
  const followed = pairs === "independent" ? euler(eps, steps, centres, sd) : straight;
  const sides = [straight, followed].map((path) => {
    const now = at(path, t);
    const points = (some) => ({ x: some.map((dot) => dot[0]), y: some.map((dot) => dot[1]) });
    return {
      dots: points(now.slice(lines)),
      drawn: now.slice(0, lines).map((_, i) => points(path.map((row) => row[i]))),
      marks: now.slice(0, lines).map((dot) => points([dot])),
    };
  });
  const cost = (ends) => mean(ends.map((end, i) => (end[0] - eps[i][0]) ** 2 + (end[1] - eps[i][1]) ** 2));
  const nearest = (dot) => Math.min(...centres.map((centre) => Math.hypot(dot[0] - centre[0], dot[1] - centre[1])));
  const ends = followed.at(-1);
  const arrived = ends.filter((dot) => nearest(dot) < 3 * sd).length / ends.length;
  const [left, right] = [straight, followed].map((path) => crossings(path.map((row) => row.slice(0, lines))));
  const words =
    `t = ${f(t, ".2f")}. The twelve lines cross ${left} times on the left and ${right} on the right. Mean squared way: pairs ` +
    `${f(cost(partners[pairs]), ".2f")}, flow ${f(cost(ends), ".2f")}. After ${steps} Euler step${steps > 1 ? "s" : ""} ` +
    `${f(arrived, ".0%")} of the dots are in a blob.`;
  const one = " One step: at t = 1 the noise says nothing about its partner, and all dots land on the mean.";
  return {
    curves: [...sides.map((side) => side.dots), ...sides.flatMap((side) => side.drawn), ...sides.flatMap((side) => side.marks)],
    reading: pairs === "independent" && steps === 1 ? words + one : words,
  };
}

// E[eps - x_0 | x_t = x]: the mean of the blobs' own velocities, weighted by their shares (eq. 15.6)
function velocity(x, t, centres, sd) {
  const variance = (1 - t) ** 2 * sd ** 2 + t ** 2;
  const gain = (t - (1 - t) * sd ** 2) / variance; // of x - (1 - t) centre, for data of one blob
  const away = centres.map((centre) => [x[0] - (1 - t) * centre[0], x[1] - (1 - t) * centre[1]]);
  const squares = away.map(([p, q]) => p ** 2 + q ** 2);
  const nearest = Math.min(...squares);
  const shares = squares.map((square) => Math.exp((nearest - square) / (2 * variance)));
  const total = sum(shares);
  return [0, 1].map((i) => sum(shares.map((share, k) => share * (-centres[k][i] + gain * away[k][i]))) / total);
}

// The states at t = 1, 1 - 1/steps, ..., 0
function euler(start, steps, centres, sd) {
  const path = [start];
  for (let k = steps; k > 0; k--)
    path.push(
      path.at(-1).map((x) => {
        const u = velocity(x, k / steps, centres, sd);
        return [x[0] - u[0] / steps, x[1] - u[1] / steps];
      }),
    );
  return path;
}

// Where a path with even steps from t = 1 to t = 0 is at a time
function at(path, t) {
  const place = (1 - t) * (path.length - 1);
  const k = Math.min(Math.floor(place), path.length - 2);
  return path[k].map((dot, i) => dot.map((value, c) => value + (place - k) * (path[k + 1][i][c] - value)));
}

// How often the lines cross, each with straight pieces between its points
function crossings(path) {
  const inside = (share) => share > 1e-9 && share < 1 - 1e-9;
  let count = 0;
  for (let i = 0; i < path[0].length; i++)
    for (let j = 0; j < i; j++)
      for (let m = 0; m < path.length - 1; m++)
        for (let n = 0; n < path.length - 1; n++) {
          const [p, q] = [path[m][i], path[n][j]];
          const r = [path[m + 1][i][0] - p[0], path[m + 1][i][1] - p[1]];
          const s = [path[n + 1][j][0] - q[0], path[n + 1][j][1] - q[1]];
          const cross = r[0] * s[1] - r[1] * s[0];
          const gap = [q[0] - p[0], q[1] - p[1]];
          if (inside((gap[0] * s[1] - gap[1] * s[0]) / cross) && inside((gap[0] * r[1] - gap[1] * r[0]) / cross)) count++;
        }
  return count;
}
