// Explorers that run the network in the page: <div data-live="draw">, <div data-live="yours"> and <div data-live="between">. What
// is needed for it, some megabytes, is fetched when a reader first presses a button, and runs in a worker. Without this script
// what stands in the div stays.
import { betweenDigits } from "./between.js";
import { noise } from "./noise.js";
import { TWO, drawingPad } from "./pad.js";
import { SIDE, ask, field, frame, joined, menu, paint, picture, press, say, slider } from "./panel.js";

const NAMES = { "dpm++": "DPM-Solver++(2M)", ddim: "DDIM", ddpm: "DDPM" };

document.querySelectorAll("[data-live=draw]").forEach(drawDigits);
document.querySelectorAll("[data-live=yours]").forEach(yourDigit);
document.querySelectorAll("[data-live=between]").forEach(betweenDigits);

// -- digits that are asked for ------------------------------------------------------------------------------------------------

function drawDigits(box) {
  const { panel, group, view } = frame(box, "Draw digits");
  const wanted = field(group, "Digits", { value: box.dataset.digits ?? "2026", inputMode: "numeric", maxLength: 8, size: 8 });
  const scale = slider(group, "Guidance s", 0, 6, 0.5, 2);
  const steps = menu(group, "Steps", [3, 4, 5, 6, 8, 10, 20, 50], box.dataset.steps ?? 6);
  const solver = menu(group, "Sampler", Object.entries(NAMES).map(([key, name]) => [key, name]), box.dataset.solver ?? "dpm++");
  const button = press(group, "Draw", "live-go");
  const again = press(group, "Other noise");
  group.append(view.stop);
  const canvas = picture(panel, "Noise, one square for each digit: press Draw.");
  const film = slider(panel, "Back through the steps", 0, 0, 1, 0, "live-film");
  film.disabled = true;
  panel.append(view.status, view.bar);
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
    if (!y.length) return say(view.status, "Type one digit or more, such as 2026.");
    frames = [];
    film.disabled = true;
    const total = Number(steps.value) + 1;
    const began = performance.now();
    ask(
      { kind: "draw", seed, labels: y, solver: solver.value, steps: Number(steps.value), scale: Number(scale.value) },
      {
        ...view,
        frame: (one) => {
          frames.push(one);
          film.max = frames.length - 1;
          film.value = film.max;
          film.disabled = false;
          show(frames.length - 1);
          say(view.status, `Step ${frames.length} of ${total}: t = ${one.t}.`);
        },
        done: () => {
          box.dataset.seconds = ((performance.now() - began) / 1000).toFixed(2);
          say(view.status, `${y.join(" ")}, drawn from noise ${seed} in ${total - 1} steps: ${box.dataset.seconds} s. Nothing was sent anywhere.`);
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
  const { panel, group, view } = frame(box, "Your own digit");
  const tool = menu(group, "Tool", [["pen", "pen"], ["eraser", "eraser"]], "pen");
  const pad = drawingPad(panel, "A pad of 28 by 28 pixels to draw on.", TWO, { erasing: () => tool.value === "eraser" });
  const label = menu(group, "As", [["10", "it is (no label)"], ...[...Array(10).keys()].map((d) => [String(d), String(d)])], "10");
  const there = press(group, "To noise and back", "live-go");
  const filled = press(group, "Fill in what was erased");
  const clear = press(group, "Clear");
  group.append(view.stop);
  const canvas = picture(panel, "What becomes of it stands here.");
  panel.append(view.status, view.bar);
  let seed = 0;

  clear.addEventListener("click", pad.clear);
  there.addEventListener("click", () => run({ kind: "back", steps: 30, scale: label.value === "10" ? 1 : 2 }, "to the noise that leads to it, and down again"));
  filled.addEventListener("click", () =>
    pad.mask.every((is) => is)
      ? say(view.status, "Choose the eraser, and rub out a part of the digit first.")
      : run({ kind: "fill", steps: 30, scale: label.value === "10" ? 1 : 2, mask: pad.mask, seed: seed++ }, "the grey part is drawn anew; the rest is put back after every step"),
  );

  function run(wish, words) {
    const rows = { up: null, down: null };
    ask(
      { ...wish, image: Float32Array.from(pad.image), label: Number(label.value) },
      {
        ...view,
        frame: ({ t, x_t, x0_hat, row = "down" }) => {
          rows[row] = x_t;
          const strip = wish.kind === "back" ? [rows.up, rows.down ?? rows.up] : [x_t, x0_hat];
          paint(canvas, [joined(strip)], 2);
          say(view.status, `t = ${t}`);
        },
        done: () => {
          canvas.setAttribute("aria-label", wish.kind === "back" ? "Left, the noise; right, the image that it leads to." : "The digit with its missing part drawn.");
          say(view.status, `${words}.`[0].toUpperCase() + `${words}.`.slice(1));
        },
      },
    );
  }
}
