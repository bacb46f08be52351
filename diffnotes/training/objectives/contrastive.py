"""The contrastive loss of pictures and their captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffnotes.models.clip import contrastive_loss
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.captions import LEFT_OUT
from diffnotes.training.objectives.base import Draw, Losses, evaluated
from diffnotes.training.objectives.captions import check_captions, check_shares, drawn_captions


@dataclass(frozen=True)
class Contrastive:
    """Of a batch of pictures and captions, which belong together? Cross-entropy along the rows of the table of scalar products
    and along its columns (book, eq. 19.3; Radford et al. 2021, figure 3).

    schedule   None: clean pictures. With one they are noised to times drawn evenly from 0..T, for a noise-aware model
    left_out   how often the word for digit, thickness, size and slant is left out of a caption"""

    schedule: Schedule | None = None
    left_out: Sequence[float] = LEFT_OUT

    def __post_init__(self) -> None:
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise ValueError(
                f"schedule must be a Schedule, or None for clean pictures, got {type(self.schedule).__name__}"
            )
        object.__setattr__(self, "left_out", check_shares("left_out", self.left_out))

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The loss of each pair of a batch of pictures (batch.x) with the numbers of their captions (batch.y)."""
        x, t = batch.x, torch.zeros(len(batch.x), dtype=torch.int64, device=batch.x.device)
        if self.schedule is not None:
            g = draw("noise")
            lot = (torch.rand(1, generator=g) + torch.arange(draw.size) / draw.size) % 1
            eps = torch.randn(draw.size, *x.shape[1:], generator=g)[draw.share].to(x.device)
            t = (lot * (self.schedule.T + 1)).long()[draw.share].to(x.device)
            x = q_sample(self.schedule, x, t, eps)
        u, v = model.image(x, t), model.text(drawn_captions(batch.y, self.left_out, draw))
        loss = contrastive_loss(u, v, model.scale())
        return Losses(loss, {"contrastive": loss})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError unless the model has image, text and scale, and takes noised pictures exactly where there is a schedule."""
        check_captions(model, data)
        if missing := [name for name in ("image", "text", "scale") if not callable(getattr(model, name, None))]:
            raise ValueError(f"model must have {missing[0]}(), as CLIP has, got {type(model).__name__} without it")
        if bool(getattr(model, "noise_aware", False)) != (self.schedule is not None):
            raise ValueError("schedule must be given for a noise-aware model, and be None for any other")
        data.check_range()
        few = data[:2].to(next(model.parameters()).device)
        with evaluated(model):
            u, v = model.image(few.x, 0), model.text(few.y)  # type: ignore[operator]
        if u.shape != v.shape or len(u) != len(few):
            raise ValueError(f"model must give vectors of one length, got {tuple(u.shape)} and {tuple(v.shape)}")
