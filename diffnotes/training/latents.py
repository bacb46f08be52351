"""Codes and embeddings with their labels: rows of numbers without a range, which a diffusion model is trained on as on images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.models.autoencoder import Autoencoder
from diffnotes.process.arguments import shown
from diffnotes.process.latent import Latents
from diffnotes.training.images import Images


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of images, and what a run needs in order to know them again.

    x          (N, ...) float32: the codes, or the means of q(z|x)
    y          (N,) int64 labels
    name       a short name; source says in words of what and by which encoder
    deviation  (N, ...): the standard deviations of q(z|x), from which training draws; None: codes without noise
    images     (N, C, H, W): the images they are the embeddings of, where these are to be drawn; None: not needed
    classes    the names of the labels; () where there are none"""

    x: Float[Tensor, "N *numbers"]
    y: Int[Tensor, "N"]
    name: str
    source: str
    deviation: Float[Tensor, "N *numbers"] | None = None
    images: Float[Tensor, "N channel height width"] | None = None
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) or not self.x.is_floating_point() or self.x.ndim < 2:
            raise ValueError(f"x must hold codes of floating-point numbers, (N, ...), got {shown(self.x)}")
        for name, value in (("y", self.y), ("deviation", self.deviation), ("images", self.images)):
            if value is not None and (not isinstance(value, Tensor) or len(value) != len(self.x)):
                raise ValueError(f"{name} must hold one entry for each of the {len(self.x)} codes, got {shown(value)}")
        if self.deviation is not None and self.deviation.shape != self.x.shape:
            raise ValueError(
                f"deviation must have the shape of x, {tuple(self.x.shape)}, got {tuple(self.deviation.shape)}"
            )
        if self.y.ndim != 1 or self.y.dtype != torch.int64 or (len(self.y) and int(self.y.min()) < 0):
            raise ValueError(f"y must hold labels from 0 on, int64 of shape (N,), got {shown(self.y)}")

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Codes({len(self):,} of shape {self.item_shape}: {self.name}; {self.source})"

    def __getitem__(self, index: Any) -> "Codes":
        """The codes of these numbers, as a batch."""
        return self._each(lambda value: value[index])

    def to(self, device: str | torch.device) -> "Codes":
        """The same codes on that device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Any) -> "Codes":
        part = object.__new__(Codes)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        part.__dict__.update({k: change(v) if isinstance(v, Tensor) else v for k, v in values.items()})
        return part

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of what a model of these data draws: one code, or one image where the images are at hand."""
        return tuple((self.x if self.images is None else self.images).shape[1:])

    def digest(self) -> str:
        """The SHA-256 of all numbers."""
        tensors = [value for value in (self.x, self.deviation, self.images) if value is not None]
        return hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in tensors)).hexdigest()

    def check_range(self) -> None:
        """ValueError unless there are codes and all are finite; they have no range."""
        if not len(self) or not bool(self.x.isfinite().all()):
            raise ValueError("x must hold at least one code, and finite numbers only")


@torch.no_grad()
def encoded(autoencoder: Autoencoder, images: Images, latents: Latents | None = None) -> tuple[Codes, Latents]:
    """The standardised means and deviations of q(z|x) of all images, and the shift and scale that standardise them: measured on
    these images, or those given (book, eq. 18.4)."""
    parts = [autoencoder.encode(part) for part in images.x.split(500)]
    mean = torch.cat([m for m, _ in parts])
    deviation = torch.cat([(v / 2).exp() for _, v in parts])
    latents = Latents.measure(mean, deviation) if latents is None else latents
    source = f"of {images.name}, by an autoencoder with {autoencoder.latent_channels} channels"
    z, spread = latents.into(mean), deviation / latents.scale
    return Codes(z, images.y, "latents", source, deviation=spread, classes=images.classes), latents
