"""How much noise, when: the noise schedule and its tables.

A schedule fixes the variance beta_t in (0, 1) of the noise that step t = 1..T adds. Everything else follows:

    alpha_t     = 1 - beta_t
    alpha_bar_t = alpha_1 * ... * alpha_t,    alpha_bar_0 = 1                    (book, eq. 1.4)
    SNR(t)      = alpha_bar_t / (1 - alpha_bar_t)                                (book, eq. 1.12)

t in the code is t in the book: tables have T + 1 entries in float64, and entry 0 belongs to the clean image.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    array,
    as_int,
    check_images,
    choice,
    flatten_images,
    integer,
    integers,
    number,
    shown,
)

Table = Float[Tensor, "T_plus_1"]
Numbers = Iterable[FloatLike] | Float[Tensor, "T"] | Float[np.ndarray, "T"]
SPACINGS = ("uniform", "quadratic")
LONGEST = 1_000_000  # steps; a longer table is a mistake, or a machine's memory


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables beta_t and alpha_bar_t for t = 0..T, float64, on the CPU. Build one with the methods below."""

    name: str
    beta: Table
    alpha_bar: Table

    def __post_init__(self) -> None:
        _check_tables(self.name, self.beta, self.alpha_bar)

    # -- the schedules of the literature --------------------------------------------------------------------------

    @classmethod
    def linear(cls, T: IntLike = 1000, beta_1: FloatLike = 1e-4, beta_T: FloatLike = 0.02) -> "Schedule":
        """beta_t rises in a straight line from beta_1 to beta_T (Ho et al. 2020, section 4; book, eq. 1.15)."""
        T, beta_1, beta_T = _length(T), _beta("beta_1", beta_1), _beta("beta_T", beta_T)
        return cls.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64), name="linear")

    @classmethod
    def quadratic(cls, T: IntLike = 1000, beta_1: FloatLike = 1e-4, beta_T: FloatLike = 0.02) -> "Schedule":
        """sqrt(beta_t) rises in a straight line from sqrt(beta_1) to sqrt(beta_T)."""
        T, beta_1, beta_T = _length(T), _beta("beta_1", beta_1), _beta("beta_T", beta_T)
        roots = torch.linspace(math.sqrt(beta_1), math.sqrt(beta_T), T, dtype=torch.float64)
        return cls.from_betas(roots**2, name="quadratic")

    @classmethod
    def sigmoid(cls, T: IntLike = 1000, beta_1: FloatLike = 1e-4, beta_T: FloatLike = 0.02) -> "Schedule":
        """beta_t climbs from beta_1 to beta_T along the logistic curve between -6 and 6, rescaled to meet both ends."""
        T, beta_1, beta_T = _length(T), _beta("beta_1", beta_1), _beta("beta_T", beta_T)
        curve = torch.sigmoid(torch.linspace(-6, 6, T, dtype=torch.float64))
        climb = (curve - curve[0]) / (curve[-1] - curve[0]) if T > 1 else torch.zeros(1, dtype=torch.float64)
        return cls.from_betas(beta_1 + climb * (beta_T - beta_1), name="sigmoid")

    @classmethod
    def cosine(cls, T: IntLike = 1000, s: FloatLike = 0.008, max_beta: FloatLike = 0.999) -> "Schedule":
        """alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2), beta_t <= max_beta
        (Nichol and Dhariwal 2021, eq. 17; book, eq. 1.16)."""
        T, max_beta = _length(T), _beta("max_beta", max_beta)
        s = number("s", s, "be a finite number >= 0", lambda s: 0 <= s < math.inf)
        t = torch.arange(T + 1, dtype=torch.float64)
        f = torch.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2
        betas = (1 - f[1:] / f[:-1]).clamp(max=max_beta)
        if not bool((betas > 0).all()):
            raise ValueError(f"s must be smaller, or float64 cannot tell the times apart, got {s:g}")
        return cls.from_betas(betas, name="cosine")

    @classmethod
    def geometric(cls, T: IntLike = 200, lowest: FloatLike = 0.02, highest: FloatLike = 30.0) -> "Schedule":
        """Noise levels sigma_1 = lowest, ..., sigma_T = highest of one ratio, with alpha_bar_t = 1 / (1 + sigma_t^2)
        (Song and Ermon 2019, section 4; book, eq. 13.7): the variance-exploding chain x_0 + sigma_t eps in the units of this
        package, x_t = (x_0 + sigma_t eps) / sqrt(1 + sigma_t^2). ValueError where float64 cannot tell two levels apart."""
        T = integer("T", T, 2, LONGEST)
        highest = number("highest", highest, "be a positive number", lambda v: 0 < v < 1e100)
        lowest = number(
            "lowest", lowest, f"be a positive number below highest = {highest:g}", lambda v: 0 < v < highest
        )
        ratio = torch.arange(T, dtype=torch.float64) / (T - 1)
        table = 1 / (1 + (lowest * (highest / lowest) ** ratio) ** 2)
        if not bool((table.diff() < 0).all() and table[0] < 1):
            raise ValueError(
                f"lowest and highest must lie so far apart, and lowest so far from 0, that all T = {T} levels differ in float64, "
                f"got {lowest:g} and {highest:g}"
            )
        return cls.from_alpha_bar(table, name="geometric")

    # -- from a table of one's own ---------------------------------------------------------------------------------

    @classmethod
    def from_betas(cls, betas: Numbers, name: str = "custom") -> "Schedule":
        """The schedule with the step variances betas = (beta_1, ..., beta_T), each in (0, 1)."""
        table = _as_table("betas", betas)
        wrong = ~((table > 0) & (table < 1))  # NaN is wrong as well
        if wrong.any():
            t = int(wrong.nonzero()[0])
            raise ValueError(f"betas must lie in (0, 1), each of them, got beta_{t + 1} = {table[t].item():g}")
        alpha_bar = torch.cat([torch.ones(1), (1 - table).cumprod(0)])
        _check_falling(alpha_bar, hint=": with these betas or this T, float64 cannot tell some times apart")
        return cls(name, torch.cat([torch.zeros(1), table]), alpha_bar)

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Numbers, name: str = "custom") -> "Schedule":
        """The schedule with alpha_bar = (alpha_bar_1, ..., alpha_bar_T): strictly falling inside (0, 1).

        The last entry may be exactly 0 ("zero terminal SNR": x_T is pure noise); then beta_T = 1."""
        table = torch.cat([torch.ones(1), _as_table("alpha_bar", alpha_bar)])
        _check_falling(table)
        return cls(name, torch.cat([torch.zeros(1), 1 - table[1:] / table[:-1]]), table)

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
        """SNR(t) = alpha_bar_t / (1 - alpha_bar_t) (book, eq. 1.12); infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def log_snr(self) -> Table:
        """log SNR(t), natural logarithm; +inf at t = 0, -inf where alpha_bar_t = 0."""
        return self.alpha_bar.log() - torch.log1p(-self.alpha_bar)

    @property
    def posterior_variance(self) -> Table:
        """beta-tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) * beta_t, the variance of q(x_{t-1} | x_t, x_0)
        (book, eq. 2.4; Ho et al. 2020, eq. 7). Zero at t = 1: there x_{t-1} is x_0 itself. Entry 0 has no meaning and is 0."""
        abar = self.alpha_bar
        return torch.cat([torch.zeros(1), (1 - abar[:-1]) / (1 - abar[1:]) * self.beta[1:]])

    def prior_kl(self, x0: Float[Tensor, "batch *dims"]) -> Float[Tensor, "batch"]:
        """D_KL(q(x_T | x_0) || N(0, I)) in nats, summed over the coordinates of each image (book, eq. 1.14):
        half of  alpha_bar_T ||x_0||^2 - d alpha_bar_T - d log(1 - alpha_bar_T)."""
        check_images(x0=x0)
        x0 = flatten_images(x0.double())
        abar_T, d = self.alpha_bar[-1].to(x0), x0.shape[1]
        return 0.5 * (abar_T * x0.square().sum(1) - d * abar_T - d * torch.log1p(-abar_T))

    def subsequence(
        self, steps: IntLike, spacing: str = "uniform", start: IntLike | None = None
    ) -> Int[Tensor, "steps_plus_1"]:
        """Times tau_0 = 0 < tau_1 < ... < tau_S = `start` (T unless given) for sampling in S = `steps` steps.

        "uniform": tau_i = round(i T / S). "quadratic": tau_i = round(i^2 T / S^2), dense near the data, pushed up where
        rounding would repeat a time (book, eq. 8.14; Song, Meng and Ermon 2021, appendix D.2). Both always end at T, or
        with `start` in its place there."""
        T, limit = self.T, "T = "
        if start is not None:
            T, limit = integer("start", start, 1, self.T, "T = "), "start = "
        S = integer("steps", steps, 1, T, limit)
        if check_spacing(spacing) == "uniform":
            tau = [(2 * i * T + S) // (2 * S) for i in range(S + 1)]  # round half up, in whole numbers
        else:
            tau = [0]
            for i in range(1, S + 1):
                tau.append(max((2 * i * i * T + S * S) // (2 * S * S), tau[-1] + 1))
        return torch.tensor(tau)

    def __repr__(self) -> str:
        return f"Schedule({self.name}, T={self.T}, alpha_bar_T={self.alpha_bar[-1].item():.4g})"


def check_schedule(schedule: object) -> None:
    """ValueError unless it is a Schedule."""
    if not isinstance(schedule, Schedule):
        raise ValueError(
            f"schedule must be a Schedule, got {type(schedule).__name__}; one of diffusers' schedulers becomes a Schedule "
            "by process.adapters.schedule_from_diffusers"
        )


def check_spacing(spacing: object) -> str:
    """The name of a spacing; ValueError that says so if it is the old one."""
    if isinstance(spacing, str) and spacing == "linear":
        raise ValueError('spacing "linear" is now called "uniform"')
    return choice("spacing", spacing, SPACINGS)


def check_t(schedule: Schedule, t: Any, lowest: int = 1, name: str = "t") -> Int[Tensor, "*batch"]:
    """The time(s) t as an integer tensor on the CPU, where the tables are; ValueError outside lowest..T."""
    check_schedule(schedule)
    single = as_int(t)
    if single is not None:
        if not lowest <= single <= schedule.T:
            raise ValueError(f"{name} must lie in {lowest}..{schedule.T}, got {single}..{single}")
        return torch.tensor(single)
    index = integers(name, t, "be an integer or a 1-D tensor of integers").cpu()
    if index.ndim > 1:
        raise ValueError(
            f"{name} must be an integer or a 1-D tensor of integers, got {index.dtype} of shape {tuple(index.shape)}"
        )
    if index.numel() and not (lowest <= int(index.min()) and int(index.max()) <= schedule.T):
        raise ValueError(f"{name} must lie in {lowest}..{schedule.T}, got {int(index.min())}..{int(index.max())}")
    return index


def check_times(schedule: Schedule, t: Any, x: Tensor) -> Int[Tensor, "batch"]:
    """The same, one for each image of x."""
    times = check_t(schedule, t)
    _check_one_each(times, x)
    return times.expand(len(x))


def per_image(coefficient: Tensor, x: Tensor) -> Tensor:
    """One coefficient for each image, in the dtype and on the device of x, shaped to multiply x of shape (B, ...)."""
    _check_one_each(coefficient, x)
    return coefficient.to(device=x.device, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _check_one_each(times: Tensor, x: Tensor) -> None:
    if times.ndim == 1 and len(times) not in (1, len(x)):
        raise ValueError(f"t has {len(times)} entries for a batch of {len(x)} images; give one each, or one integer")


def _length(T: object) -> int:
    length = integer("T", T, 1)
    if length > LONGEST:
        raise ValueError(f"T must be at most {LONGEST:,}, got {length}")
    return length


def _beta(name: str, value: object) -> float:
    beta = number(name, value, "lie in (0, 1)", lambda beta: 0 < beta < 1)
    if 1 - beta == 1:
        raise ValueError(f"{name} must be larger, for float64 cannot tell 1 - {name} from 1, got {beta:g}")
    return beta


def _check_tables(name: str, beta: Table, alpha_bar: Table) -> None:
    """ValueError unless these are a name and two tables that belong together."""
    if not isinstance(name, str):
        raise ValueError(f"name must be a string, got {shown(name)}")
    for which, table, first in (("beta", beta, 0), ("alpha_bar", alpha_bar, 1)):
        if not isinstance(table, Tensor) or table.dtype != torch.float64 or table.ndim != 1:
            raise ValueError(f"{which} must be a 1-D float64 tensor, got {shown(table)}")
        if table.device.type != "cpu" or table.layout != torch.strided:
            raise ValueError(f"{which} must be a dense tensor on the CPU, got {table.layout} on {table.device}")
        if len(table) < 2 or len(table) != len(beta) or table[0] != first:
            raise ValueError(
                f"{which} must have T + 1 >= 2 entries, as many as beta, from {first}, got {table[:3].tolist()} ..."
            )
    _check_falling(alpha_bar)
    if not ((1 - beta).cumprod(0) - alpha_bar).abs().max() < 1e-9:
        raise ValueError("alpha_bar must be the running product of 1 - beta; these two tables do not belong together")


def _check_falling(alpha_bar: Table, hint: str = "") -> None:
    """ValueError unless the table falls strictly, stays in (0, 1) after its first entry, or ends at 0; NaN does neither."""
    falling = alpha_bar[1:] < alpha_bar[:-1]
    positive = alpha_bar[1:] > 0
    positive[-1] |= alpha_bar[-1] == 0
    wrong = ~(falling & positive)
    if wrong.any():
        t = int(wrong.nonzero()[0]) + 1
        raise ValueError(
            "alpha_bar must fall strictly inside (0, 1) (only the last entry may be 0), "
            f"got alpha_bar_{t} = {alpha_bar[t].item():g} after {alpha_bar[t - 1].item():g}{hint}"
        )


def _as_table(name: str, values: Any) -> Tensor:
    """The numbers as a float64 table on the CPU."""
    found = array(name, values, "fiu", "be a sequence of numbers, one for each t = 1..T")
    table = torch.tensor(np.ascontiguousarray(found), dtype=torch.float64)
    if table.ndim != 1 or len(table) == 0:
        raise ValueError(
            f"{name} must be a non-empty 1-D table (entry 0 of it belongs to t = 1), got shape {tuple(table.shape)}"
        )
    return table
