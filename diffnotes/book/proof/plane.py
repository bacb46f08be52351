"""A ring of blobs in the plane whose marginal velocity has a closed form, and pairs of noise and data, in numpy (chapter 15).

Flow time t runs from 0 (data) to 1 (noise): x_t = (1 - t) x_0 + t eps. Nothing here uses the package's own samplers: the tests
compare the two.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Ring:
    """A mixture of `number` equal Gaussians with standard deviation `sd`, their centres evenly on a circle."""

    number: int = 8
    radius: float = 2.0
    sd: float = 0.15

    @property
    def centres(self) -> np.ndarray:
        """(number, 2)."""
        angle = 2 * np.pi * np.arange(self.number) / self.number
        return self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """So many points of the data, (size, 2)."""
        return self.centres[rng.integers(self.number, size=size)] + self.sd * rng.standard_normal((size, 2))

    def shares(self, x: np.ndarray, t: float) -> np.ndarray:
        """The probability of each blob given x_t = x, (N, number)."""
        variance = (1 - t) ** 2 * self.sd**2 + t**2
        squares = ((x[:, None] - (1 - t) * self.centres) ** 2).sum(2)
        weights = np.exp((squares.min(1, keepdims=True) - squares) / (2 * variance))
        return np.asarray(weights / weights.sum(1, keepdims=True))

    def velocity(self, x: np.ndarray, t: float) -> np.ndarray:
        """E[eps - x_0 | x_t = x], (N, 2): the mean of the blobs' own velocities, weighted by their shares (book, eq. 15.6)."""
        variance = (1 - t) ** 2 * self.sd**2 + t**2
        gain = (t - (1 - t) * self.sd**2) / variance  # of x - (1 - t) centre, for data of one blob
        own = -self.centres + gain * (x[:, None] - (1 - t) * self.centres)
        return np.asarray((self.shares(x, t)[..., None] * own).sum(1))

    def density(self, x: np.ndarray, t: float) -> np.ndarray:
        """p_t(x), (N,)."""
        variance = (1 - t) ** 2 * self.sd**2 + t**2
        squares = ((x[:, None] - (1 - t) * self.centres) ** 2).sum(2)
        return np.asarray(np.exp(-squares / (2 * variance)).mean(1) / (2 * np.pi * variance))

    def euler(self, x: np.ndarray, steps: int) -> np.ndarray:
        """The states at t = 1, 1 - 1/steps, ..., 0, (steps + 1, N, 2)."""
        path = [x]
        for k in range(steps, 0, -1):
            path.append(path[-1] - self.velocity(path[-1], k / steps) / steps)
        return np.array(path)

    def ends(self, x: np.ndarray, steps: int = 60) -> np.ndarray:
        """Where the flow takes x from t = 1 to 0, by Runge and Kutta's method of fourth order in even steps."""
        for k in range(steps, 0, -1):
            t, h = k / steps, -1 / steps
            k1 = self.velocity(x, t)
            k2 = self.velocity(x + h / 2 * k1, t + h / 2)
            k3 = self.velocity(x + h / 2 * k2, t + h / 2)
            k4 = self.velocity(x + h * k3, t + h)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x


def transport(x0: np.ndarray, eps: np.ndarray) -> np.ndarray:
    """The order of the noises for which the sum of ||eps_order(i) - x0_i||^2 is smallest."""
    cost = ((x0[:, None] - eps) ** 2).sum(2)
    return np.asarray(linear_sum_assignment(cost)[1])


def never_meet(x0: np.ndarray, eps: np.ndarray) -> bool:
    """Whether no two of the pairs' straight lines are at one place at one time: a line i meets a line j at the time t only if
    (1 - t) (x0_i - x0_j) = -t (eps_i - eps_j), and then the product of the two differences is negative."""
    products = ((x0[:, None] - x0) * (eps[:, None] - eps)).sum(2)
    apart = ~np.eye(len(x0), dtype=bool)
    return bool((products[apart] > 0).all())


def crossings(paths: np.ndarray) -> int:
    """How often lines drawn in the plane cross, (points, lines, 2), each with straight pieces between its points."""
    begin, piece = paths[:-1], np.diff(paths, axis=0)
    count = 0
    for i in range(paths.shape[1]):
        for j in range(i):
            p, r = begin[:, None, i], piece[:, None, i]
            q, s = begin[None, :, j], piece[None, :, j]
            cross = r[..., 0] * s[..., 1] - r[..., 1] * s[..., 0]
            gap = q - p
            with np.errstate(divide="ignore", invalid="ignore"):
                along = (gap[..., 0] * s[..., 1] - gap[..., 1] * s[..., 0]) / cross
                beside = (gap[..., 0] * r[..., 1] - gap[..., 1] * r[..., 0]) / cross
            inside = [(share > 1e-9) & (share < 1 - 1e-9) for share in (along, beside)]
            count += int((inside[0] & inside[1]).sum())
    return count
