// What several explorers compute with: numpy's linspace, sums, Gaussians.

export function linspace(start, stop, number) {
  const step = (stop - start) / (number - 1);
  return Array.from({ length: number }, (_, i) => (i === number - 1 ? stop : i * step + start));
}

export const sum = (values) => values.reduce((total, value) => total + value, 0);

export const mean = (values) => sum(values) / values.length;

export const largest = (values) => values.reduce((most, value) => Math.max(most, value), -Infinity);

export function trapezoid(y, x) {
  let area = 0;
  for (let i = 1; i < x.length; i++) area += ((x[i] - x[i - 1]) * (y[i] + y[i - 1])) / 2;
  return area;
}

// log N(x; mean, variance)
export const logNormal = (x, centre, variance) => -((x - centre) ** 2) / (2 * variance) - 0.5 * Math.log(2 * Math.PI * variance);

export const normal = (x, centre, variance) => Math.exp(logNormal(x, centre, variance));

// log(e^a + e^b + ...)
export function logSumExp(logs) {
  const top = Math.max(...logs);
  return top === -Infinity ? top : top + Math.log(sum(logs.map((log) => Math.exp(log - top))));
}

// The probability that a standard normal number is at most z: a series for small |z|, a continued fraction for large.
export function below(z) {
  if (Math.abs(z) > 38) return z < 0 ? 0 : 1;
  const bell = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (Math.abs(z) < 3) {
    let [term, total] = [z, z];
    for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(total); n += 2) total += term *= (z * z) / n;
    return 0.5 + bell * total;
  }
  let fraction = Math.abs(z);
  for (let n = 80; n > 0; n--) fraction = Math.abs(z) + n / fraction;
  return z < 0 ? bell / fraction : 1 - bell / fraction;
}

// The x at which a rising function of x reaches a value, by bisection.
export function reach(rising, value, low, high) {
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (rising(middle) < value) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

// How many values lie in each of the bins between the edges, which are even; the last one has both its ends, as numpy's has.
export function histogram(values, edges) {
  const counts = new Array(edges.length - 1).fill(0);
  const [low, high] = [edges[0], edges.at(-1)];
  for (const value of values) {
    if (value < low || value > high) continue;
    let k = Math.min(counts.length - 1, Math.floor(((value - low) / (high - low)) * counts.length));
    if (value < edges[k]) k--;
    else if (value >= edges[k + 1] && k < counts.length - 1) k++;
    counts[k]++;
  }
  return counts;
}

// Paths, each a list of y, as one line with a gap after each.
export function oneLine(x, paths) {
  return { x: paths.flatMap(() => [...x, NaN]), y: paths.flatMap((path) => [...path, NaN]) };
}

// Whole numbers from -32,768 to 32,767 that were packed by Python's array("h") and base64
export const int16 = (text) => new Int16Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
