// What the explorers that run the network share: a panel with controls, status and Stop, pictures of 28 by 28 pixels, and the worker.
export const SIDE = 28;

let worker;
let asked = 0;
const waiting = new Map();

// Asks the worker; frame(one) is called for each frame that it sends, done() after the last.
export function ask(wish, { bar, status, stop, frame, done }) {
  drop("Stopped, for something else was asked for."); // who asks last is answered
  const id = ++asked;
  const end = (words) => {
    waiting.delete(id);
    bar.hidden = true;
    if (document.activeElement === stop) stop.parentElement.querySelector(".live-go")?.focus(); // a disabled button loses it
    stop.disabled = true;
    status.ariaLive = "polite";
    if (words) say(status, words);
  };
  waiting.set(id, ({ loaded, frame: one, done: over, error, dropped }) => {
    if (dropped) end(dropped);
    else if (error) end(`This did not work: ${error}.`);
    else if (loaded !== undefined) {
      progress(bar, loaded < 1 ? loaded : 0, "Fetching the network");
      say(status, `Fetching the network and its runtime: ${Math.round(100 * loaded)} %`);
    } else if (one) {
      bar.hidden = true;
      frame(one);
    } else if (over) {
      waiting.delete(id);
      status.ariaLive = "polite";
      done();
      if (waiting.size === 0) end(); // else done asked for more, and Stop keeps the keyboard
    }
  });
  if (!worker) {
    if (typeof WebAssembly !== "object" || typeof Worker !== "function" || location.protocol === "file:")
      return end("This needs a browser with WebAssembly, and a page that comes from a web server, not from a file.");
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => waiting.get(data.id)?.(data);
    worker.onerror = (event) => waiting.get(asked)?.({ error: event.message || "the worker could not be started" });
  }
  say(status, "Starting.");
  status.ariaLive = "off"; // no one wants every step read out; what it ends with is
  stop.disabled = false;
  worker.postMessage({ id, ...wish });
}

// What is being computed is not wanted any more; the worker stops at its next step.
export function drop(words) {
  if (waiting.size === 0) return;
  waiting.forEach((hear) => hear({ dropped: words }));
  worker?.postMessage({ id: ++asked, kind: "stop" });
}

export function progress(bar, share, words) {
  Object.assign(bar, { hidden: share === 0, value: share });
  bar.setAttribute("aria-label", words);
}

// the parts that every explorer has; view: what ask needs of it
export function frame(box, title) {
  box.replaceChildren();
  if (box.dataset.intro) element(box, "p", { textContent: box.dataset.intro });
  const group = element(box, "div", { className: "explorer-controls" });
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", title);
  const panel = element(box, "div", { className: "live-panel" });
  const status = element(panel, "p", { className: "live-status" });
  status.setAttribute("role", "status");
  const bar = element(panel, "progress", { max: 1, hidden: true });
  progress(bar, 0, "Fetching the network");
  const stop = press(group, "Stop");
  stop.disabled = true;
  stop.addEventListener("click", () => drop("Stopped."));
  return { panel, group, view: { status, bar, stop } };
}

export function element(parent, name, properties) {
  return Object.assign(parent.appendChild(document.createElement(name)), properties);
}

export function field(group, name, properties) {
  const label = element(group, "label", {});
  label.append(`${name} `);
  return element(label, "input", { type: "text", autocomplete: "off", ...properties });
}

export function slider(parent, name, min, max, step, value, className = "") {
  const label = element(parent, "label", { className });
  label.append(`${name} `);
  const input = element(label, "input", { type: "range", min, max, step, value });
  input.setAttribute("aria-label", name);
  const shown = element(label, "output", { textContent: className ? "" : value });
  if (!className) input.addEventListener("input", () => (shown.textContent = input.value));
  return input;
}

export function menu(group, name, options, value) {
  const label = element(group, "label", {});
  label.append(`${name} `);
  const select = element(label, "select", {});
  options.forEach((option) => {
    const [key, words] = Array.isArray(option) ? option : [option, option];
    select.add(new Option(words, key, false, String(key) === String(value)));
  });
  return select;
}

export function press(group, textContent, className = "") {
  return element(group, "button", { type: "button", textContent, className });
}

export function picture(panel, words) {
  const canvas = element(panel, "canvas", { className: "live-canvas", width: 4 * SIDE, height: 2 * SIDE });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  return canvas;
}

export function paint(canvas, rows, n) {
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

export function joined(images) {
  const all = new Float32Array(images.length * SIDE ** 2);
  images.forEach((image, i) => all.set(image, i * SIDE ** 2));
  return all;
}

export function say(status, words) {
  status.textContent = words;
}
