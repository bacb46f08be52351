"""The noise of the pages, in Python: docs/static/live/noise.js draws the same numbers, for the same seed, to the last bit of
a float32 or next to it."""

import numpy as np


def noise(seed: int, images: int, pixels: int = 784) -> np.ndarray:
    """Standard normal numbers (images, pixels), float32. Image i depends on seed and i alone.

    Uniform numbers by mulberry32, a counter in steps of 0x6D2B79F5 whose bits are mixed; normal ones by Box and Muller,
    z = sqrt(-2 log u) cos(2 pi v), two uniform numbers for each."""
    start = ((np.arange(images, dtype=np.uint64) + np.uint64(64 * seed + 1)) * np.uint64(0x9E3779B1)).astype(np.uint32)
    counter = np.arange(1, 2 * pixels + 1, dtype=np.uint64) * np.uint64(0x6D2B79F5)
    a = start[:, None] + counter.astype(np.uint32)
    mixed = (a ^ (a >> np.uint32(15))) * (np.uint32(1) | a)
    mixed = (mixed + (mixed ^ (mixed >> np.uint32(7))) * (np.uint32(61) | mixed)) ^ mixed
    uniform = ((mixed ^ (mixed >> np.uint32(14))).astype(np.float64) + 1) / (2**32 + 1)
    u, v = uniform[:, ::2], uniform[:, 1::2]
    return (np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)).astype(np.float32)
