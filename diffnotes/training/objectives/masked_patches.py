"""The loss of a masked autoencoder: the patches that it has not seen."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffnotes.process.arguments import integer
from diffnotes.training.objectives.base import Draw, Losses


@dataclass(frozen=True)
class MaskedPatches:
    """Mean squared error of a pixel of the hidden patches, the visible ones not counted (He et al. 2022, section 3):

        1/(pixels hidden) sum_{i hidden} |patch_i - prediction_i(visible patches)|^2

    keep  patches of an image that the model sees; which ones is drawn anew for each image and update"""

    keep: int = 12

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", integer("keep", self.keep, 1))

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """What a batch of images costs (batch.x)."""
        order = (
            torch.rand(draw.size, model.positions, generator=draw("patches"))[draw.share].argsort(1).to(batch.x.device)
        )
        visible, hidden = order[:, : self.keep], order[:, self.keep :]
        predicted = model(batch.x, visible).float()
        error = (model.patches(batch.x) - predicted).square().mean(2).gather(1, hidden).mean(1)
        return Losses(error, {"error of the hidden": error})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model has no patches, sees all of them, or the images are not of its size."""
        positions: Any = getattr(model, "positions", None)
        if positions is None or not callable(getattr(model, "patches", None)):
            raise ValueError(
                f"model must have positions and patches, as MaskedAutoencoder does, got {type(model).__name__}"
            )
        if self.keep >= positions:
            raise ValueError(f"keep must be fewer than the {positions} patches of an image, got {self.keep}")
        if not hasattr(data, "x") or not hasattr(data, "check_range"):
            raise ValueError(f"data must be Images, with .x, got {type(data).__name__}")
        data.check_range()
        model.patches(data[:1].x.to(next(model.parameters()).device))  # type: ignore[operator]
