"""Gaussian processes on a grid: series whose conditional distributions are known exactly, whatever part of them is seen.

    k(i, j)   = exp(-2 sin^2(pi (i - j) / p) / l^2) exp(-(i - j)^2 / (2 L^2)),  a locally periodic kernel
    x_h | x_o ~ N(K_ho K_oo^{-1} x_o,  K_hh - K_ho K_oo^{-1} K_oh)                              (book, eq. 22.13)

With several kernels, each with a probability, the seen part also says which of them it came from (book, eq. 22.2).
(Rasmussen and Williams 2006, chapters 2 and 4.)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffnotes.process.arguments import FloatLike, IntLike, check_dense, check_floats, integer, number, shown

LONGEST = 10_000  # of a series whose covariance is written down
Kernel = Float[Tensor, "position position"]
Series = Float[Tensor, "_"]
Seen = Bool[Tensor, "_"]
Draws = Float[Tensor, "draw position"]


def periodic_kernel(
    length: IntLike,
    period: FloatLike,
    smoothness: FloatLike = 1.0,
    decay: FloatLike = 24.0,
    noise: FloatLike = 0.0,
) -> Kernel:
    """The covariance of a locally periodic series of variance 1 at the positions 0..length-1, (length, length), float64:

        (1 - noise) exp(-2 sin^2(pi d / period) / smoothness^2) exp(-d^2 / (2 decay^2)) + noise [d = 0],   d = i - j

    smoothness: within a period, small for rough ones; decay: over how many positions the shape of a period changes; noise: the
    part of the variance that is independent from position to position."""
    length = integer("length", length, 1, LONGEST)
    p, rough, far = (
        number(name, value, "be a positive number", lambda v: 0 < v < math.inf)
        for name, value in (("period", period), ("smoothness", smoothness), ("decay", decay))
    )
    noise = number("noise", noise, "lie in [0, 1]", lambda v: 0 <= v <= 1)
    d = torch.arange(length, dtype=torch.float64)[:, None] - torch.arange(length, dtype=torch.float64)
    wave = (-2 * ((math.pi * d / p).sin() / rough).square() - (d / far).square() / 2).exp()
    return (1 - noise) * wave + noise * torch.eye(length, dtype=torch.float64)


def gp_posterior(K: Kernel, seen: Seen, x: Series) -> tuple[Float[Tensor, "hidden"], Float[Tensor, "hidden hidden"]]:
    """Mean (hidden,) and covariance (hidden, hidden) of the hidden positions of a series x ~ N(0, K), given those that are seen:
    K_ho K_oo^{-1} x_o and K_hh - K_ho K_oo^{-1} K_oh (book, eq. 22.13), float64. x (length,): only x[seen] is read."""
    K, seen, x = _check_window(K, seen, x)
    gain = torch.linalg.solve(K[seen][:, seen], K[seen][:, ~seen]).T
    return gain @ x[seen], K[~seen][:, ~seen] - gain @ K[seen][:, ~seen]


def log_evidence(K: Kernel, seen: Seen, x: Series) -> Tensor:
    """log N(x_o; 0, K_oo) in nats: how probable the seen positions are under the kernel K."""
    K, seen, x = _check_window(K, seen, x)
    if not bool(seen.any()):
        return torch.zeros((), dtype=torch.float64)
    of_seen = torch.distributions.MultivariateNormal(torch.zeros_like(x[seen]), K[seen][:, seen], validate_args=False)
    return of_seen.log_prob(x[seen])


@dataclass(frozen=True, eq=False)
class MixtureOfGPs:
    """A series that follows one of several Gaussian processes: `kernels` (k, length, length), `weights` (k,), sum 1.

    Its conditional distribution is a mixture of Gaussians, one for each kernel, with the kernels' probabilities given the seen
    part (book, eq. 22.2): it may have two humps where one Gaussian process cannot."""

    kernels: Float[Tensor, "k position position"]
    weights: Float[Tensor, "_"]

    def __post_init__(self) -> None:
        check_floats("kernels", self.kernels, "(k, length, length)")
        check_floats("weights", self.weights, "(k,)")
        if self.kernels.ndim != 3 or self.kernels.shape[1] != self.kernels.shape[2]:
            raise ValueError(f"kernels must have the shape (k, length, length), got {tuple(self.kernels.shape)}")
        if self.weights.shape != self.kernels.shape[:1]:
            raise ValueError(
                f"weights must hold {len(self.kernels)} probabilities, one for each kernel, got {shown(self.weights)}"
            )
        if not (bool((self.weights >= 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-6):
            raise ValueError(f"weights must be >= 0 and sum to 1, got {self.weights.tolist()}")

    @property
    def length(self) -> int:
        """The number of positions of a series."""
        return self.kernels.shape[1]

    def draw(self, number: IntLike, generator: torch.Generator | None = None) -> Draws:
        """So many series, (number, length), float64."""
        number = integer("number", number, 0)
        which = torch.multinomial(self.weights, max(number, 1), True, generator=generator)[:number]
        z = torch.randn(number, self.length, generator=generator, dtype=torch.float64)
        x = torch.empty_like(z)
        for k, K in enumerate(self.kernels):
            x[which == k] = z[which == k] @ torch.linalg.cholesky(K.double()).T
        return x

    def posterior_weights(self, seen: Seen, x: Series) -> Float[Tensor, "k"]:
        """The probability of each kernel given the seen positions: proportional to its weight times its evidence."""
        logs = torch.stack([log_evidence(K, seen, x) for K in self.kernels])
        return (self.weights.double().log() + logs).softmax(0)

    def posterior_draws(
        self, seen: Seen, x: Series, number: IntLike, generator: torch.Generator | None = None
    ) -> Draws:
        """So many series from the exact conditional distribution, (number, length); the seen positions are those of x."""
        number = integer("number", number, 1)
        which = torch.multinomial(self.posterior_weights(seen, x), number, True, generator=generator)
        z = torch.randn(number, int((~seen).sum()), generator=generator, dtype=torch.float64)
        draws = x.double().expand(number, -1).clone()
        for k, K in enumerate(self.kernels):
            mean, covariance = gp_posterior(K, seen, x)
            ours = which == k
            filled = mean + z[ours] @ torch.linalg.cholesky(covariance).T
            draws[ours] = draws[ours].masked_scatter(~seen, filled)
        return draws


def _check_window(K: Tensor, seen: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel and series in float64; ValueError where kernel, mask and series have not one length, or K is no covariance."""
    check_floats("K", K, "(length, length)")
    if K.ndim != 2 or K.shape[0] != K.shape[1]:
        raise ValueError(f"K must have the shape (length, length), got {tuple(K.shape)}")
    if not isinstance(seen, Tensor) or seen.dtype != torch.bool:
        raise ValueError(f"seen must be a tensor of True and False, got {shown(seen)}")
    check_dense("seen", seen)
    check_floats("x", x, "(length,)")
    for name, value in (("seen", seen), ("x", x)):
        if value.shape != K.shape[:1]:
            raise ValueError(f"{name} must hold one entry for each of the {len(K)} positions, got {tuple(value.shape)}")
    K = K.double()
    if int(torch.linalg.cholesky_ex(K[seen][:, seen]).info) != 0:
        raise ValueError("K must be positive definite where something is seen")
    return K, seen, x.double()
