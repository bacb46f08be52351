"""The training losses of chapter 18: Denoising, on draws from an encoder, given a small image, or given an embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.arguments import integer
from diffnotes.process.cascade import augment, enlarge, shrink
from diffnotes.process.given import Given
from diffnotes.process.schedules import Schedule
from diffnotes.training.images import Images
from diffnotes.training.objectives.base import Draw, Losses
from diffnotes.training.objectives.denoising import Denoising

TIMES = (0.3, 1.0)  # logit-normal, as chapter 6 has them


@dataclass(frozen=True)
class DenoisingCodes:
    """Denoising in a latent space: x_0 is a draw z = mean + sigma eps from q(z|x), a new one in each update.

    label_dropout, logit_normal  see Denoising; the squared errors are not weighted"""

    schedule: Schedule
    label_dropout: float = 0.1
    logit_normal: Sequence[float | int] | None = TIMES

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_normal", self.denoising().logit_normal)

    def denoising(self) -> Denoising:
        """The loss itself."""
        return Denoising(self.schedule, min_snr=None, label_dropout=self.label_dropout, logit_normal=self.logit_normal)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The squared errors of a batch of Codes (batch.x the means, batch.deviation, batch.y)."""
        z = batch.x
        if batch.deviation is not None:
            eps = torch.randn(draw.size, *z.shape[1:], generator=draw("code"))[draw.share].to(z)
            z = z + batch.deviation * eps
        return self.denoising()(model, _Batch(z, batch.y), draw)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError where Denoising would raise it, or if the data are no Codes."""
        if not hasattr(data, "deviation"):
            raise ValueError(f"data must be Codes, with .deviation, got {type(data).__name__}")
        self.denoising().check(model, data)


@dataclass(frozen=True)
class DenoisingUpscaled:
    """Denoising of the second stage of a cascade, which is given a small image, noised to a level s, and that level (book, eq.
    18.12; Ho et al. 2022, section 4.2).

    most    s is drawn evenly from 0..most for each image; 0: no noise, and no level
    factor  how many times smaller the small image is
    label_dropout, logit_normal  see Denoising"""

    schedule: Schedule
    most: int = 500
    factor: int = 2
    label_dropout: float = 0.1
    logit_normal: Sequence[float | int] | None = TIMES

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_normal", self.denoising().logit_normal)
        object.__setattr__(self, "most", integer("most", self.most, 0, self.schedule.T, "T = "))
        object.__setattr__(self, "factor", integer("factor", self.factor, 1))

    def denoising(self) -> Denoising:
        """The loss itself."""
        return Denoising(self.schedule, min_snr=None, label_dropout=self.label_dropout, logit_normal=self.logit_normal)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The squared errors of a batch of large images (batch.x, batch.y)."""
        g, c = draw("condition"), shrink(batch.x, self.factor)
        s = torch.randint(0, self.most + 1, (draw.size,), generator=g)[draw.share]  # one for each image
        eps = torch.randn(draw.size, *c.shape[1:], generator=g)[draw.share].to(c)
        return self.denoising()(Given(model, **self.side(c, s, eps)), batch, draw)

    def side(self, c: Tensor, s: Tensor, eps: Tensor) -> dict[str, Tensor]:
        """What the model is given of small images c at levels s (B,) with noise eps."""
        picture = enlarge(augment(self.schedule, c, s, eps), self.factor)
        return {"picture": picture, "level": s.to(c.device)} if self.most else {"picture": picture}

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError where Denoising would raise it, or if the model does not take what it is given."""
        if not isinstance(data, Images):
            raise ValueError(f"data must be Images, got {type(data).__name__}")
        c = shrink(data[:2].x, self.factor)
        self.denoising().check(model, data, **self.side(c, torch.zeros(len(c), dtype=torch.int64), torch.zeros_like(c)))


@dataclass(frozen=True)
class DenoisingEmbedded:
    """Denoising of images given their embeddings: the decoder of unCLIP (Ramesh et al. 2022, section 2.1)."""

    schedule: Schedule
    logit_normal: Sequence[float | int] | None = TIMES

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit_normal", self.denoising().logit_normal)

    def denoising(self) -> Denoising:
        """The loss itself."""
        return Denoising(self.schedule, min_snr=None, label_dropout=0.0, logit_normal=self.logit_normal)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The squared errors of a batch of Codes with their images (batch.x the embeddings, batch.images)."""
        return self.denoising()(Given(model, vector=batch.x), _Batch(batch.images, batch.y), draw)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError where Denoising would raise it, or if the data are no Codes with images."""
        if getattr(data, "images", None) is None:
            raise ValueError(f"data must be Codes with their images, got {type(data).__name__} without")
        few = data[:2]
        self.denoising().check(model, Images(few.images, few.y, data.name, data.source), vector=few.x)


@dataclass(frozen=True)
class _Batch:
    x: Tensor
    y: Tensor
