// Explorers that run the network in the page: <div data-live="draw"> and <div data-live="yours">. What is needed for it, some
// megabytes, is fetched when a reader first presses a button, and runs in a worker. Without this script what stands in the
// div stays.
import { noise } from "./noise.js";

const NAMES = { "dpm++": "DPM-Solver++(2M)", ddim: "DDIM", ddpm: "DDPM" };
const SIDE = 28;

document.querySelectorAll("[data-live=draw]").forEach(drawDigits);
document.querySelectorAll("[data-live=yours]").forEach(yourDigit);

// -- digits that are asked for ------------------------------------------------------------------------------------------------

function drawDigits(box) {
  const { panel, group, status, bar } = frame(box, "Draw digits");
  const wanted = field(group, "Digits", { value: box.dataset.digits ?? "2026", inputMode: "numeric", maxLength: 8, size: 8 });
  const scale = slider(group, "Guidance s", 0, 6, 0.5, 2);
  const steps = menu(group, "Steps", [3, 4, 5, 6, 8, 10, 20, 50], box.dataset.steps ?? 6);
  const solver = menu(group, "Sampler", Object.entries(NAMES).map(([key, name]) => [key, name]), box.dataset.solver ?? "dpm++");
  const button = press(group, "Draw", "live-go");
  const again = press(group, "Other noise");
  const canvas = picture(panel, "Noise, one square for each digit: press Draw.");
  const film = slider(panel, "Back through the steps", 0, 0, 1, 0, "live-film");
  film.disabled = true;
  panel.append(status, bar);
  let [seed, frames] = [1, []];

  const rest = () => paint(canvas, [noise(seed, labels().length || 1)], labels().length || 1); // what it begins with
  const labels = () => [...wanted.value].filter((c) => c >= "0" && c <= "9").map(Number);
  wanted.addEventListener("keydown", (event) => event.key === "Enter" && go());
  wanted.addEventListener("input", rest);
  rest();
  button.addEventListener("click", go);
  again.addEventListener("click", () => (seed++, go()));
  film.addEventListener("input", () => show(Number(film.value)));

  function go() {
    const y = labels();
    if (!y.length) return say(status, "Type one digit or more, such as 2026.");
    frames = [];
    film.disabled = true;
    const total = Number(steps.value) + 1;
    const began = performance.now();
    ask(
      { kind: "draw", seed, labels: y, solver: solver.value, steps: Number(steps.value), scale: Number(scale.value) },
      {
        bar,
        status,
        frame: (one) => {
          frames.push(one);
          film.max = frames.length - 1;
          film.value = film.max;
          show(frames.length - 1);
          say(status, `Step ${frames.length} of ${total}: t = ${one.t}.`);
        },
        done: () => {
          film.disabled = false;
          box.dataset.seconds = ((performance.now() - began) / 1000).toFixed(2);
          say(status, `${y.join(" ")}, drawn from noise ${seed} in ${total - 1} steps: ${box.dataset.seconds} s. Nothing was sent anywhere.`);
          show(frames.length - 1);
        },
      },
    );
  }

  function show(i) {
    const { t, x_t, x0_hat } = frames[i];
    const n = x_t.length / SIDE ** 2;
    paint(canvas, [x_t, x0_hat], n);
    canvas.setAttribute("aria-label", `${n} images at t = ${t}: above, x_t; below, the estimate of the clean digits.`);
    film.setAttribute("aria-valuetext", `t = ${t}`);
    film.nextElementSibling.textContent = `t = ${t}`;
  }
}

// -- a digit of the reader's own ----------------------------------------------------------------------------------------------

function yourDigit(box) {
  const { panel, group, status, bar } = frame(box, "Your own digit");
  const image = new Float32Array(SIDE ** 2).fill(-1);
  const mask = new Float32Array(SIDE ** 2).fill(1); // 0: erased
  const pad = picture(panel, "A pad of 28 by 28 pixels to draw on.");
  pad.classList.add("live-pad");
  const tool = menu(group, "Tool", [["pen", "pen"], ["eraser", "eraser"]], "pen");
  const label = menu(group, "As", [["10", "it is (no label)"], ...[...Array(10).keys()].map((d) => [String(d), String(d)])], "10");
  const there = press(group, "To noise and back", "live-go");
  const filled = press(group, "Fill in what was erased");
  const clear = press(group, "Clear");
  const canvas = picture(panel, "What becomes of it stands here.");
  panel.append(status, bar);
  let seed = 0;
  example();
  refresh();

  let last = null;
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    last = null;
    stroke(event);
  });
  pad.addEventListener("pointermove", (event) => event.buttons && stroke(event));
  clear.addEventListener("click", () => (image.fill(-1), mask.fill(1), refresh()));
  there.addEventListener("click", () => run({ kind: "back", steps: 30, scale: label.value === "10" ? 1 : 2 }, "to the noise that leads to it, and down again"));
  filled.addEventListener("click", () =>
    mask.every((is) => is)
      ? say(status, "Choose the eraser, and rub out a part of the digit first.")
      : run({ kind: "fill", steps: 30, scale: label.value === "10" ? 1 : 2, mask, seed: seed++ }, "the grey part is drawn anew; the rest is put back after every step"),
  );

  function stroke(event) {
    const { left, top, width } = pad.getBoundingClientRect();
    const [x, y] = [((event.clientX - left) / width) * SIDE - 0.5, ((event.clientY - top) / width) * SIDE - 0.5];
    const from = last ?? [x, y];
    const pieces = Math.max(1, Math.ceil(2 * Math.hypot(x - from[0], y - from[1])));
    for (let i = 1; i <= pieces; i++) dab(from[0] + ((x - from[0]) * i) / pieces, from[1] + ((y - from[1]) * i) / pieces);
    last = [x, y];
    refresh();
  }

  function dab(x, y) {
    const [erase, radius] = [tool.value === "eraser", tool.value === "eraser" ? 3 : 1.3];
    image.forEach((_, k) => {
      const far = Math.hypot((k % SIDE) - x, Math.floor(k / SIDE) - y);
      if (erase) far < radius && (mask[k] = 0);
      else if (far < radius + 0.7) {
        image[k] = Math.max(image[k], Math.min(1, 2 * (radius + 0.7 - far) - 1));
        mask[k] = 1;
      }
    });
  }

  function example() {
    const two = [[8, 9], [10, 6], [14, 5], [18, 7], [18, 11], [14, 15], [9, 20], [8, 21], [13, 21], [19, 21]];
    two.slice(1).forEach(([x, y], i) => {
      for (let k = 0; k <= 10; k++) dab(two[i][0] + ((x - two[i][0]) * k) / 10, two[i][1] + ((y - two[i][1]) * k) / 10);
    });
  }

  function refresh() {
    paint(pad, [image.map((v, k) => (mask[k] ? v : 0))], 1);
  }

  function run(wish, words) {
    const rows = { up: null, down: null };
    ask(
      { ...wish, image: Float32Array.from(image), label: Number(label.value) },
      {
        bar,
        status,
        frame: ({ t, x_t, x0_hat, row = "down" }) => {
          rows[row] = x_t;
          const strip = wish.kind === "back" ? [rows.up, rows.down ?? rows.up] : [x_t, x0_hat];
          paint(canvas, [joined(strip)], 2);
          say(status, `t = ${t}`);
        },
        done: () => {
          canvas.setAttribute("aria-label", wish.kind === "back" ? "Left, the noise; right, the image that it leads to." : "The digit with its missing part drawn.");
          say(status, `${words}.`[0].toUpperCase() + `${words}.`.slice(1));
        },
      },
    );
  }
}

// -- what both share ----------------------------------------------------------------------------------------------------------

let worker;
let asked = 0;
const waiting = new Map();

function ask(wish, { bar, status, frame, done }) {
  const id = ++asked;
  waiting.forEach((hear) => hear({ dropped: true })); // who asks last is answered
  waiting.clear();
  waiting.set(id, ({ loaded, frame: one, done: end, error, dropped }) => {
    if (dropped) {
      bar.hidden = true;
      say(status, "Stopped, for something else was asked for.");
    } else if (loaded !== undefined) {
      bar.hidden = loaded >= 1;
      bar.value = loaded;
      say(status, `Fetching the network and its runtime: ${Math.round(100 * loaded)} %`);
    } else if (error) {
      bar.hidden = true;
      say(status, `This did not work: ${error}.`);
    } else if (one) {
      bar.hidden = true;
      frame(one);
    } else if (end) done();
  });
  if (!worker) {
    if (typeof WebAssembly !== "object" || typeof Worker !== "function" || location.protocol === "file:")
      return say(status, "This needs a browser with WebAssembly, and a page that comes from a web server, not from a file.");
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => waiting.get(data.id)?.(data);
    worker.onerror = (event) => waiting.get(asked)?.({ error: event.message || "the worker could not be started" });
  }
  say(status, "Starting.");
  worker.postMessage({ id, ...wish });
}

function frame(box, title) {
  box.replaceChildren();
  if (box.dataset.intro) element(box, "p", { textContent: box.dataset.intro });
  const group = element(box, "div", { className: "explorer-controls" });
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title);
  const panel = element(box, "div", { className: "live-panel" });
  const status = element(panel, "p", { className: "live-status" });
  status.setAttribute("role", "status");
  const bar = element(panel, "progress", { max: 1, value: 0, hidden: true });
  bar.setAttribute("aria-label", "Fetching the network");
  return { panel, group, status, bar };
}

function element(parent, name, properties) {
  return Object.assign(parent.appendChild(document.createElement(name)), properties);
}

function field(group, name, properties) {
  const label = element(group, "label", {});
  label.append(`${name} `);
  return element(label, "input", { type: "text", autocomplete: "off", ...properties });
}

function slider(parent, name, min, max, step, value, className = "") {
  const label = element(parent, "label", { className });
  label.append(`${name} `);
  const input = element(label, "input", { type: "range", min, max, step, value });
  input.setAttribute("aria-label", name);
  const shown = element(label, "output", { textContent: className ? "" : value });
  if (!className) input.addEventListener("input", () => (shown.textContent = input.value));
  return input;
}

function menu(group, name, options, value) {
  const label = element(group, "label", {});
  label.append(`${name} `);
  const select = element(label, "select", {});
  options.forEach((option) => {
    const [key, words] = Array.isArray(option) ? option : [option, option];
    select.add(new Option(words, key, false, String(key) === String(value)));
  });
  return select;
}

function press(group, textContent, className = "") {
  return element(group, "button", { type: "button", textContent, className });
}

function picture(panel, words) {
  const canvas = element(panel, "canvas", { className: "live-canvas", width: 4 * SIDE, height: 2 * SIDE });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  return canvas;
}

function paint(canvas, rows, n) {
  const [width, height] = [n * SIDE, rows.length * SIDE];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  rows.forEach((row, r) =>
    row.forEach((value, k) => {
      const [i, y, x] = [Math.floor(k / SIDE ** 2), Math.floor((k % SIDE ** 2) / SIDE), k % SIDE];
      const grey = 127.5 * (Math.max(-1, Math.min(1, value)) + 1);
      image.data.set([grey, grey, grey, 255], 4 * ((r * SIDE + y) * width + i * SIDE + x));
    }),
  );
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function joined(images) {
  const all = new Float32Array(images.length * SIDE ** 2);
  images.forEach((image, i) => all.set(image, i * SIDE ** 2));
  return all;
}

function say(status, words) {
  status.textContent = words;
}
