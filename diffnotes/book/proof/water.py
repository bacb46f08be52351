"""The water level (chapter 17): rate and distortion of a Gaussian, coordinate by coordinate, in closed form."""

import numpy as np

Array = np.ndarray


def water_level(spectrum: Array, theta: float) -> tuple[Array, Array, Array]:
    """For the variances `spectrum` of independent Gaussian coordinates and the level theta > 0: the gain of the reconstruction,
    (lambda - theta)_+ / lambda, the rate 1/2 (log lambda / theta)_+ in nats, and the squared error min(lambda, theta) (book,
    eq. 17.4; Shannon 1959, reverse water-filling)."""
    above = np.maximum(spectrum, theta)
    return 1 - theta / above, 0.5 * np.log(above / theta), np.minimum(spectrum, theta)
