"""How much noise, when: the noise schedule and its tables.

A schedule fixes the variance beta_t in (0, 1) of the noise that step t = 1..T adds. Everything else follows:

    alpha_t     = 1 - beta_t
    alpha_bar_t = alpha_1 * ... * alpha_t,    alpha_bar_0 = 1                    (book, eq. 4.4)
    SNR(t)      = alpha_bar_t / (1 - alpha_bar_t)                                (book, eq. 4.12)

t in the code is t in the book: tables have T + 1 entries in float64, and entry 0 belongs to the clean image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Table = Float[Tensor, "T_plus_1"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables beta_t and alpha_bar_t for t = 0..T, float64, on the CPU. Build one with the methods below."""

    name: str
    beta: Table
    alpha_bar: Table

    # -- the schedules of the literature --------------------------------------------------------------------------

    @classmethod
    def linear(cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> "Schedule":
        """beta_t rises in a straight line from beta_1 to beta_T (Ho et al. 2020, section 4; book, eq. 4.15)."""
        _check_length(T)
        _check_beta("beta_1", beta_1)
        _check_beta("beta_T", beta_T)
        return cls.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64), name="linear")

    @classmethod
    def quadratic(cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> "Schedule":
        """sqrt(beta_t) rises in a straight line from sqrt(beta_1) to sqrt(beta_T)."""
        _check_length(T)
        _check_beta("beta_1", beta_1)
        _check_beta("beta_T", beta_T)
        roots = torch.linspace(math.sqrt(beta_1), math.sqrt(beta_T), T, dtype=torch.float64)
        return cls.from_betas(roots**2, name="quadratic")

    @classmethod
    def sigmoid(cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> "Schedule":
        """beta_t climbs from beta_1 to beta_T along the logistic curve between -6 and 6, rescaled to meet both ends."""
        _check_length(T)
        _check_beta("beta_1", beta_1)
        _check_beta("beta_T", beta_T)
        curve = torch.sigmoid(torch.linspace(-6, 6, T, dtype=torch.float64))
        climb = (curve - curve[0]) / (curve[-1] - curve[0]) if T > 1 else torch.zeros(1, dtype=torch.float64)
        return cls.from_betas(beta_1 + climb * (beta_T - beta_1), name="sigmoid")

    @classmethod
    def cosine(cls, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> "Schedule":
        """alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2), beta_t <= max_beta
        (Nichol and Dhariwal 2021, eq. 17; book, eq. 4.16)."""
        _check_length(T)
        _check_beta("max_beta", max_beta)
        if not (math.isfinite(s) and s >= 0):
            raise ValueError(f"s must be a finite number >= 0, got {s}")
        t = torch.arange(T + 1, dtype=torch.float64)
        f = torch.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2
        return cls.from_betas((1 - f[1:] / f[:-1]).clamp(max=max_beta), name="cosine")

    # -- from a table of one's own ---------------------------------------------------------------------------------

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Float[Tensor, "T"], name: str = "custom") -> "Schedule":
        """The schedule with the step variances betas = (beta_1, ..., beta_T), each in (0, 1)."""
        betas = _as_table("betas", betas)
        wrong = ~((betas > 0) & (betas < 1))  # NaN is wrong as well
        if wrong.any():
            t = int(wrong.nonzero()[0])
            raise ValueError(f"every beta_t must lie in (0, 1), got beta_{t + 1} = {betas[t].item():g}")
        return cls(name, torch.cat([torch.zeros(1), betas]), torch.cat([torch.ones(1), (1 - betas).cumprod(0)]))

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Sequence[float] | Float[Tensor, "T"], name: str = "custom") -> "Schedule":
        """The schedule with alpha_bar = (alpha_bar_1, ..., alpha_bar_T): strictly falling inside (0, 1).

        The last entry may be exactly 0 ("zero terminal SNR": x_T is pure noise); then beta_T = 1."""
        alpha_bar = torch.cat([torch.ones(1), _as_table("alpha_bar", alpha_bar)])
        falling = alpha_bar[1:] < alpha_bar[:-1]
        positive = (alpha_bar[1:] > 0) | (
            (torch.arange(1, len(alpha_bar)) == len(alpha_bar) - 1) & (alpha_bar[1:] == 0)
        )
        wrong = ~(falling & positive)
        if wrong.any():
            t = int(wrong.nonzero()[0]) + 1
            raise ValueError(
                "alpha_bar must fall strictly inside (0, 1) (only the last entry may be 0), "
                f"got alpha_bar_{t} = {alpha_bar[t].item():g} after {alpha_bar[t - 1].item():g}"
            )
        return cls(name, torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]]), alpha_bar)

    def rescale_zero_terminal_snr(self) -> "Schedule":
        """This schedule with sqrt(alpha_bar) shifted and stretched so that alpha_bar_T = 0 and alpha_bar_1 stays
        (Lin et al. 2024, algorithm 1). A network that predicts eps cannot start from x_T then; use target "v" or "x0"."""
        if self.T < 2:
            raise ValueError(f"rescale_zero_terminal_snr needs T >= 2, got T = {self.T}")
        root = self.alpha_bar[1:].sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return Schedule.from_alpha_bar(root**2, name=f"{self.name}, zero terminal SNR")

    # -- what follows from the tables ------------------------------------------------------------------------------

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return len(self.beta) - 1

    @property
    def alpha(self) -> Table:
        """alpha_t = 1 - beta_t."""
        return 1 - self.beta

    @property
    def snr(self) -> Table:
        """SNR(t) = alpha_bar_t / (1 - alpha_bar_t) (book, eq. 4.12); infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Table:
        """log SNR(t), natural logarithm; +inf at t = 0, -inf where alpha_bar_t = 0."""
        return self.alpha_bar.log() - torch.log1p(-self.alpha_bar)

    @property
    def posterior_variance(self) -> Table:
        """beta-tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) * beta_t, the variance of q(x_{t-1} | x_t, x_0)
        (book, eq. 5.4; Ho et al. 2020, eq. 7). Zero at t = 1: there x_{t-1} is x_0 itself. Entry 0 has no meaning and is 0."""
        abar = self.alpha_bar
        return torch.cat([torch.zeros(1), (1 - abar[:-1]) / (1 - abar[1:]) * self.beta[1:]])

    def prior_kl(self, x0: Float[Tensor, "batch *dims"]) -> Float[Tensor, "batch"]:
        """D_KL(q(x_T | x_0) || N(0, I)) in nats, summed over the coordinates of each image (book, eq. 4.14):
        half of  alpha_bar_T ||x_0||^2 - d alpha_bar_T - d log(1 - alpha_bar_T)."""
        x0 = x0.double().flatten(1)
        abar_T, d = self.alpha_bar[-1].to(x0), x0.shape[1]
        return 0.5 * (abar_T * x0.square().sum(1) - d * abar_T - d * torch.log1p(-abar_T))

    def subsequence(self, steps: int, spacing: str = "linear") -> Int[Tensor, "steps_plus_1"]:
        """Times tau_0 = 0 < tau_1 < ... < tau_S = T for sampling in S = `steps` steps.

        "linear": tau_i = round(i T / S). "quadratic": tau_i = round(i^2 T / S^2), dense near the data, pushed up where
        rounding would repeat a time (book, eq. 11.14; Song, Meng and Ermon 2021, appendix D.2). Both always end at T."""
        if not _is_int(steps) or not 1 <= steps <= self.T:
            raise ValueError(f"steps must be an integer from 1 to T = {self.T}, got {steps!r}")
        S, T = steps, self.T
        if spacing == "linear":
            tau = [(2 * i * T + S) // (2 * S) for i in range(S + 1)]  # round half up, in whole numbers
        elif spacing == "quadratic":
            tau = [0]
            for i in range(1, S + 1):
                tau.append(max((2 * i * i * T + S * S) // (2 * S * S), tau[-1] + 1))
        else:
            raise ValueError(f'spacing must be "linear" or "quadratic", got {spacing!r}')
        return torch.tensor(tau)

    def __repr__(self) -> str:
        return f"Schedule({self.name}, T={self.T}, alpha_bar_T={self.alpha_bar[-1].item():.4g})"


def check_t(schedule: Schedule, t: int | Int[Tensor, "*batch"], lowest: int = 1) -> Int[Tensor, "*batch"]:
    """The time(s) t as an integer tensor on the CPU, where the tables are; ValueError outside lowest..T."""
    index = torch.as_tensor(t).cpu()
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(
            f"t must be an integer or a 1-D tensor of integers, got {index.dtype} of shape {tuple(index.shape)}"
        )
    if index.numel() and not (lowest <= int(index.min()) and int(index.max()) <= schedule.T):
        raise ValueError(f"t must lie in {lowest}..{schedule.T}, got {int(index.min())}..{int(index.max())}")
    return index.long()


def per_image(coefficient: Tensor, x: Tensor) -> Tensor:
    """One coefficient for each image, in the dtype and on the device of x, shaped to multiply x of shape (B, ...)."""
    if coefficient.ndim == 1 and len(coefficient) not in (1, len(x)):
        raise ValueError(
            f"t has {len(coefficient)} entries for a batch of {len(x)} images; give one each, or one integer"
        )
    return coefficient.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_length(T: int) -> None:
    if not _is_int(T) or T < 1:
        raise ValueError(f"T must be an integer >= 1, got {T!r}")


def _check_beta(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}")


def _as_table(name: str, values: Sequence[float] | Tensor) -> Tensor:
    table = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    if table.ndim != 1 or len(table) == 0:
        raise ValueError(
            f"{name} must be a non-empty 1-D table (entry 0 of it belongs to t = 1), got shape {tuple(table.shape)}"
        )
    return table
