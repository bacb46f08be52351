// A pad of 28 by 28 pixels to draw on with mouse or finger, with a pen, and where it is asked for an eraser.
import { SIDE, paint, picture } from "./panel.js";

// strokes of the pen that stand there before a reader draws
export const TWO = [[8, 9], [10, 6], [14, 5], [18, 7], [18, 11], [14, 15], [9, 20], [8, 21], [13, 21], [19, 21]];
export const FIVE = [[19, 6], [11, 6], [10, 12], [15, 11], [18, 15], [16, 20], [9, 21]];
export const SIX = [[16, 5], [11, 11], [9, 17], [12, 22], [17, 20], [17, 16], [12, 15], [9, 18]];

// image: in [-1, 1]; mask: 0 where it was erased. After a reader's change, changed() is called.
export function drawingPad(parent, words, example, { erasing = () => false, changed = () => {} } = {}) {
  const image = new Float32Array(SIDE ** 2).fill(-1);
  const mask = new Float32Array(SIDE ** 2).fill(1);
  const canvas = picture(parent, words);
  canvas.classList.add("live-pad");
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && stroke(event));
  example.slice(1).forEach((to, i) => line(example[i], to));
  show();
  return { image, mask, canvas, clear, set };

  function stroke(event) {
    const { left, top, width } = canvas.getBoundingClientRect();
    const to = [((event.clientX - left) / width) * SIDE - 0.5, ((event.clientY - top) / width) * SIDE - 0.5];
    line(last ?? to, to);
    last = to;
    show();
    changed();
  }

  function line(from, to) {
    const pieces = Math.max(1, Math.ceil(2 * Math.hypot(to[0] - from[0], to[1] - from[1])));
    for (let i = 1; i <= pieces; i++) dab(...from.map((x, k) => x + ((to[k] - x) * i) / pieces));
  }

  function dab(x, y) {
    const [erase, radius] = [erasing(), erasing() ? 3 : 1.3];
    image.forEach((_, k) => {
      const far = Math.hypot((k % SIDE) - x, Math.floor(k / SIDE) - y);
      if (erase) far < radius && (mask[k] = 0);
      else if (far < radius + 0.7) {
        image[k] = Math.max(image[k], Math.min(1, 2 * (radius + 0.7 - far) - 1));
        mask[k] = 1;
      }
    });
  }

  function set(other) {
    image.set(other);
    mask.fill(1);
    show();
  }

  function clear() {
    set(new Float32Array(SIDE ** 2).fill(-1));
    changed();
  }

  function show() {
    paint(canvas, [image.map((v, k) => (mask[k] ? v : 0))], 1);
  }
}
