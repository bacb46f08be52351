// Standard normal numbers, the same as docs/live/noise.py draws for the same seed: uniform ones by mulberry32, a counter in steps
// of 0x6D2B79F5 whose bits are mixed; normal ones by Box and Muller. Image i depends on seed and i alone.
export function noise(seed, images, pixels = 784) {
  const z = new Float32Array(images * pixels);
  for (let i = 0; i < images; i++) {
    const next = uniform(Math.imul(64 * seed + i + 1, 0x9e3779b1));
    for (let k = 0; k < pixels; k++) {
      const u = next();
      z[i * pixels + k] = Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * next());
    }
  }
  return z;
}

function uniform(a) {
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let mixed = Math.imul(a ^ (a >>> 15), 1 | a);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 1) / 4294967297;
  };
}
