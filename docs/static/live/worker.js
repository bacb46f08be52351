// The network runs here, beside the page, which stays free to move. The page sends {id, kind, ...} and gets frames, one by one.
import { NO_LABEL, PIXELS, invert, sample, slerp } from "./sampler.js";
import { noise } from "./noise.js";

let ready;
let current = 0; // the last wish; an older one stops at its next step

self.onmessage = async ({ data }) => {
  current = data.id;
  if (data.kind === "stop") return;
  try {
    const { facts, predict } = await (ready ??= load());
    const frames = { draw, back, fill, upward, between, compare }[data.kind](predict, facts, data);
    for await (const frame of frames) {
      if (current !== data.id) return;
      self.postMessage({ id: data.id, frame });
      await new Promise((next) => setTimeout(next)); // to hear of a newer wish
    }
    self.postMessage({ id: data.id, done: true });
  } catch (error) {
    ready = undefined;
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};

// digits that were asked for, from the noise of a seed
function draw(predict, facts, { seed, labels, solver, steps, scale }) {
  const [x_T, y] = [noise(seed, labels.length), labels];
  return sample(predict, facts, { x_T, y, scale, times: facts.times[TIMES[solver]][steps], ...HOW[solver], draw: fresh(seed) });
}

const HOW = { "dpm++": { order: 2 }, ddim: { order: 1 }, ddpm: { order: 1, eta: 1 } };
const TIMES = { "dpm++": "dpm++", ddim: "ddim", ddpm: "ddim" };

function fresh(seed) {
  let n = 1000 * (seed + 1);
  return (length) => noise(n++, length / PIXELS);
}

// up to the noise that leads to the image, and down again: as it is, and as another digit
async function* back(predict, facts, { image, label, steps, scale }) {
  const times = facts.times.ddim[steps];
  let up;
  for await (up of invert(predict, facts, { x_0: image, y: [NO_LABEL], times })) yield { ...up, row: "up" };
  for await (const down of sample(predict, facts, { x_T: up.x_t, y: [label], times, scale })) yield { ...down, row: "down" };
}

// what was erased, filled in
function fill(predict, facts, { image, mask, label, steps, scale, seed }) {
  const known = { image, mask };
  const [x_T, times] = [noise(seed, 1), facts.times.ddim[steps]];
  return sample(predict, facts, { x_T, y: [label], times, scale, eta: 1, draw: fresh(seed), known });
}

// images one after the other in x_0, each up to the noise that leads to it
function upward(predict, facts, { x_0, steps }) {
  return invert(predict, facts, { x_0, y: Array(x_0.length / PIXELS).fill(NO_LABEL), times: facts.times.ddim[steps] });
}

// the points u of the path between the noises a and b, and down from each of them
function between(predict, facts, { a, b, us, steps }) {
  const x_T = new Float32Array(us.length * PIXELS);
  us.forEach((u, i) => x_T.set(slerp(a, b, u), i * PIXELS));
  return sample(predict, facts, { x_T, y: us.map(() => NO_LABEL), times: facts.times.ddim[steps] });
}

// for the tests: one call of the network
async function* compare(predict, facts, { x_t, t, y }) {
  yield { v: await predict(x_t, t, y) };
}

// -- loading, once it is wanted -----------------------------------------------------------------------------------------------

async function load() {
  if (typeof WebAssembly !== "object") throw new Error("this browser has no WebAssembly, which runs the network");
  const sizes = await (await fetch(new URL("sizes.json", import.meta.url))).json();
  const names = ["model.json", "model.onnx", "ort-wasm-simd-threaded.wasm"];
  const all = names.reduce((sum, name) => sum + sizes[name], 0);
  const got = {};
  const report = (name, bytes) => {
    got[name] = bytes;
    self.postMessage({ id: current, loaded: Object.values(got).reduce((a, b) => a + b) / all });
  };
  const [facts, model, runtime] = await Promise.all(names.map((name) => bytes(name, report)));
  const ort = await import("./ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1; // more would ask for headers that a plain web server does not send
  ort.env.wasm.wasmBinary = runtime.buffer;
  ort.env.wasm.wasmPaths = { mjs: new URL("./ort-wasm-simd-threaded.mjs", import.meta.url).href };
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { facts: JSON.parse(new TextDecoder().decode(facts)), predict: predictor(ort, session) };
}

async function bytes(name, report) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} could not be fetched (${answer.status})`);
  const parts = [];
  let length = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    report(name, (length += value.length));
  }
  const all = new Uint8Array(length);
  parts.reduce((place, part) => (all.set(part, place), place + part.length), 0);
  return all;
}

function predictor(ort, session) {
  const whole = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [numbers.length]);
  return async (x_t, t, y) => {
    const x = new ort.Tensor("float32", x_t, [y.length, 1, 28, 28]);
    const { v } = await session.run({ x_t: x, t: whole(y.map(() => t)), y: whole(y) });
    return v.data;
  };
}
