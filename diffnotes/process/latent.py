"""Latents: codes of an autoencoder, shifted and scaled so that a diffusion model finds them with mean 0 and variance 1.

    z~ = (z - m) / sigma_z,    sigma_z^2 = mean over j of E[sigma_j^2(x)] + E[(mu_j(x) - m_j)^2]    (book, eq. 18.4)

A wrong scale is another noise schedule, exactly: log SNR' = log SNR + 2 log sigma_z                (book, eq. 18.5)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import FloatLike, IntLike, check_floats, check_images, integer, number
from diffnotes.process.schedules import Schedule, check_schedule

Codes = Float[Tensor, "batch channel *places"]
LARGEST = 1000.0  # scale of a schedule, and one over the smallest: beyond, alpha_bar is 1 or 0 to the last digit


@dataclass(frozen=True)
class Latents:
    """Codes z (B, C, ...) to latents z~ = (z - shift) / scale and back (book, eq. 18.4; Rombach et al. 2022, appendix G, without
    the shift).

    shift  m, a number for each channel
    scale  sigma_z > 0, one number for all"""

    shift: tuple[float, ...]
    scale: float = 1.0

    def __post_init__(self) -> None:
        values = tuple(self.shift) if isinstance(self.shift, list | tuple) else ()
        if not values:
            raise ValueError(f"shift must be a number for each channel, got {self.shift!r:.80}")
        shift = tuple(number("shift", value, "hold finite numbers", math.isfinite) for value in values)
        scale = number("scale", self.scale, "be a positive number", lambda v: 0 < v < math.inf)
        object.__setattr__(self, "shift", shift)
        object.__setattr__(self, "scale", scale)

    @classmethod
    def measure(cls, mean: Codes, deviation: Codes | None = None) -> "Latents":
        """From the means and standard deviations of q(z|x) for many images: the shift of each channel, and the scale
        from the total variance, that of the means and that of the draws around them (book, eq. 18.4).

        deviation None: codes without noise."""
        check_images(**({"mean": mean} if deviation is None else {"mean": mean, "deviation": deviation}))
        if mean.ndim < 2 or len(mean) < 2:
            raise ValueError(f"mean must hold codes (B, C, ...) of two or more images, got shape {tuple(mean.shape)}")
        by_channel = mean.double().transpose(0, 1).flatten(1)
        shift = by_channel.mean(1)
        variance = (by_channel - shift[:, None]).square().mean()
        if deviation is not None:
            variance = variance + deviation.double().square().mean()
        return cls(tuple(shift.tolist()), float(variance.sqrt()))

    def into(self, z: Codes) -> Codes:
        """z~ = (z - m) / sigma_z."""
        return (z - self._shift(z)) / self.scale

    def back(self, z: Codes) -> Codes:
        """z = sigma_z z~ + m."""
        shift = self._shift(z)
        return self.scale * z + shift

    def _shift(self, z: Tensor) -> Tensor:
        check_floats("z", z, "(B, C, ...)")
        if z.ndim < 2 or z.shape[1] != len(self.shift):
            raise ValueError(f"z must have {len(self.shift)} channels, (B, C, ...), got shape {tuple(z.shape)}")
        return torch.tensor(self.shift, dtype=z.dtype, device=z.device).view(-1, *[1] * (z.ndim - 2))


def rescaled(schedule: Schedule, scale: FloatLike) -> Schedule:
    """The schedule that data of unit variance see when data of standard deviation `scale` are given to this one (book, eq. 18.5):

    alpha_bar' = alpha_bar sigma_z^2 / (alpha_bar sigma_z^2 + 1 - alpha_bar),    log SNR' = log SNR + 2 log sigma_z."""
    check_schedule(schedule)
    s2 = (
        number("scale", scale, f"lie between 1/{LARGEST:g} and {LARGEST:g}", lambda v: 1 / LARGEST <= v <= LARGEST) ** 2
    )
    abar = schedule.alpha_bar
    return Schedule.from_alpha_bar((abar * s2 / (abar * s2 + 1 - abar))[1:], name=f"{schedule.name}, scale {scale:g}")


@dataclass(frozen=True, eq=False)
class Projection:
    """Embeddings e (B, n) to few numbers of mean 0 and mean variance 1, and back, by principal components:

        z = U^T (e - m) / s,    e = m + s U z,    s^2 the mean variance of the kept directions

    For unit vectors the division undoes what their length does to the schedule (book, eq. 18.16)."""

    mean: Float[Tensor, "n"]
    axes: Float[Tensor, "n k"]
    scale: float

    @classmethod
    def measure(cls, e: Float[Tensor, "batch n"], keep: IntLike) -> "Projection":
        """The first `keep` principal components of these embeddings."""
        check_floats("e", e, "(B, n)")
        if e.ndim != 2 or len(e) < 2:
            raise ValueError(f"e must hold two or more embeddings, (B, n), got shape {tuple(e.shape)}")
        keep = integer("keep", keep, 1, e.shape[1], "the numbers of an embedding, ")
        mean = e.double().mean(0)
        variances, axes = torch.linalg.eigh(torch.cov(e.double().T, correction=0).reshape(len(mean), len(mean)))
        scale = variances[-keep:].mean().clamp(min=1e-24).sqrt()
        return cls(mean.to(e), axes[:, -keep:].flip(1).to(e), float(scale))

    def into(self, e: Float[Tensor, "batch n"]) -> Float[Tensor, "batch k"]:
        """z of the embeddings."""
        check_floats("e", e, "(B, n)")
        return (e - self.mean) @ self.axes / self.scale

    def back(self, z: Float[Tensor, "batch k"]) -> Float[Tensor, "batch n"]:
        """The embeddings of z, on the kept directions."""
        check_floats("z", z, "(B, k)")
        return self.mean + self.scale * z @ self.axes.T
