// <div data-live="between">: two digits, each to its noise by DDIM inversion, the path between the two noises by (8.15), and from
// points of it down to digits. No label and no fresh noise on any of these ways.
import { FIVE, SIX, drawingPad } from "./pad.js";
import { SIDE, ask, drop, element, frame, joined, menu, paint, picture, press, progress, say, slider } from "./panel.js";

const STEPS = 30;
const POINTS = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((k) => k / 8); // the ends among them: each digit to its noise and back
const NAMES = ["a", "b"];

export function betweenDigits(box) {
  const { panel, group, view } = frame(box, "From one digit to another");
  const pads = element(panel, "div", { className: "live-pads" });
  const [a, b] = [FIVE, SIX].map((example, which) => digit(pads, NAMES[which], example, which));
  const go = press(group, "To noise, and between", "live-go");
  group.append(view.stop);
  const row = picture(panel, "The row of digits between the two stands here.");
  const ticks = element(panel, "p", { className: "live-ticks", ariaHidden: "true" });
  ticks.append(...POINTS.map((u) => Object.assign(document.createElement("span"), { textContent: u === 0 ? "a" : u === 1 ? "b" : u })));
  const along = slider(panel, "u", 0, 1, 0.025, 0.5, "live-film");
  along.setAttribute("aria-label", "u, from a to b");
  const one = picture(panel, "One point of the path: left, its noise; right, the digit.");
  one.classList.add("live-one");
  panel.append(view.status, view.bar);
  let [noises, known, seed] = [null, new Map(), 1]; // known: u -> {x_T, x_0}

  go.addEventListener("click", walk);
  along.addEventListener("input", () => show(Number(along.value)));
  forget();

  function forget() {
    [noises, known, along.disabled] = [null, new Map(), true];
    ends(a.image, b.image);
    paint(one, [new Float32Array(2 * SIDE ** 2).fill(-1)], 2);
    row.setAttribute("aria-label", "The row of digits between the two stands here.");
    label(null);
  }

  function ends(first, last) {
    const nothing = POINTS.slice(2).map(() => new Float32Array(SIDE ** 2).fill(-1));
    paint(row, [joined([first, ...nothing, last])], POINTS.length);
  }

  // up: both digits in one batch; down: all points of the path in one batch
  function walk() {
    forget();
    let step = 0;
    ask(
      { kind: "upward", x_0: joined([a.image, b.image]), steps: STEPS },
      {
        ...view,
        frame: ({ t, x_t }) => {
          noises = [x_t.slice(0, SIDE ** 2), x_t.slice(SIDE ** 2)];
          ends(...noises);
          progress(view.bar, ++step / (2 * STEPS + 2), "Steps");
          say(view.status, `Up to the noise, step ${step} of ${STEPS + 1}: t = ${t}.`);
        },
        done: () => down(POINTS, { step, told: "Down from all points" }),
      },
    );
  }

  function down(us, { step, told }) {
    let x_T;
    ask(
      { kind: "between", a: noises[0], b: noises[1], us, steps: STEPS },
      {
        ...view,
        frame: ({ t, x_t, x0_hat }) => {
          x_T ??= x_t;
          paint(row, [x_T, x0_hat], us.length);
          progress(view.bar, ++step / (2 * STEPS + 2), "Steps");
          say(view.status, `${told}: t = ${t}.`);
          us.forEach((u, i) => known.set(u, { x_T: piece(x_T, i), x_0: piece(x0_hat, i) }));
          look(Number(along.value));
        },
        done: () => {
          along.disabled = false;
          row.setAttribute("aria-label", `Nine digits from a to b: above, the noise slerp(u); below, what DDIM draws from it.`);
          say(view.status, "Above, the noise slerp(u); below, what DDIM draws from it. Move u: each point is drawn from its own noise.");
        },
      },
    );
  }

  // one point of the path: as it is known, or drawn now
  function show(u) {
    if (known.has(u)) {
      drop(`u = ${u}.`);
      return look(u);
    }
    let x_T;
    ask(
      { kind: "between", a: noises[0], b: noises[1], us: [u], steps: STEPS },
      {
        ...view,
        frame: ({ t, x_t, x0_hat }) => {
          x_T ??= x_t;
          paint(one, [joined([x_t, x0_hat])], 2);
          label(u);
          say(view.status, `u = ${u}, t = ${t}.`);
          if (t === 0) known.set(u, { x_T, x_0: x0_hat });
        },
        done: () => {
          look(u);
          say(view.status, `u = ${u}: left, the noise slerp(u); right, what DDIM draws from it.`);
        },
      },
    );
  }

  function look(u) {
    const point = known.get(u);
    if (!point) return;
    paint(one, [joined([point.x_T, point.x_0])], 2);
    one.setAttribute("aria-label", `The point u = ${u} of the path: left, its noise; right, the digit.`);
    label(u);
  }

  function label(u) {
    along.nextElementSibling.textContent = u ?? "";
    along.setAttribute("aria-valuetext", u === null ? "not drawn yet" : `u = ${u}`);
  }

  function changed() {
    drop("Stopped, for a digit was changed.");
    if (noises) forget();
  }

  // a pad with what belongs to it: a digit of the reader's, or one that the network draws with its label
  function digit(parent, name, example, which) {
    const place = element(parent, "div", { className: "live-digit" });
    const pad = drawingPad(place, `Digit ${name}: a pad of 28 by 28 pixels to draw on.`, example, { changed });
    const below = element(place, "div", { className: "explorer-controls" });
    below.setAttribute("role", "group");
    below.setAttribute("aria-label", `Digit ${name}`);
    element(below, "strong", { textContent: name });
    const clear = press(below, "Clear");
    const wish = menu(below, "or by the network:", [["", "–"], ...[...Array(10).keys()].map((d) => [String(d), String(d)])], "");
    clear.addEventListener("click", pad.clear);
    wish.addEventListener("change", () => {
      if (wish.value === "") return;
      forget();
      const settings = { kind: "draw", seed: 2 * seed++ + which, labels: [Number(wish.value)], solver: "dpm++", steps: 8, scale: 2 };
      ask(settings, {
        ...view,
        frame: ({ t, x0_hat }) => {
          pad.set(x0_hat);
          say(view.status, `Digit ${name}, t = ${t}.`);
        },
        done: () => say(view.status, `Digit ${name} was drawn by the network.`),
      });
    });
    return pad;
  }
}

const piece = (images, i) => images.slice(i * SIDE ** 2, (i + 1) * SIDE ** 2);
