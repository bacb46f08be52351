"""A U-Net with side inputs: a second picture beside the noisy one, a vector, and the noise level of the second picture.

    model(x_t, t, y, picture=c_s, level=s)      the second stage of a cascade, which is given how noisy its condition is
    model(x_t, t, y, vector=e)                  the decoder of an embedding (unCLIP)

(Ho et al. 2022, Cascaded Diffusion Models, section 4.2; Ramesh et al. 2022, section 2.1.) Samplers call model(x_t, t, y): what
holds the side inputs fast meanwhile is `Given` in process/given.py.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, integer, one_each
from diffnotes.models.unet import Images, UNet, time_embedding


class ConditionedUNet(UNet):
    """model(x_t, t, y, picture, vector, level): the prediction for noisy images x_t, given the side inputs it was made for.

    picture_channels  channels of a picture of x_t's size, put beside x_t at the input; 0: none
    vector            numbers of a vector, which is projected and added to the embedding of the time; 0: none
    level             whether it is given a second time, the level s of the noise on the picture, 0 for none
    The other arguments are UNet's."""

    def __init__(self, *, picture_channels: IntLike = 0, vector: IntLike = 0, level: bool = False, **unet: Any) -> None:
        picture_channels = integer("picture_channels", picture_channels, "at least 0", 0)
        vector = integer("vector", vector, "at least 0", 0)
        if not isinstance(level, bool):
            raise ValueError(f"level must be True or False, got {level!r:.80}")
        super().__init__(**unet)
        self.settings |= dict(picture_channels=picture_channels, vector=vector, level=level)
        self.picture_channels, self.vector = picture_channels, vector
        embedding, channels = 4 * self.settings["channels"], self.settings["image_channels"] + picture_channels
        if picture_channels:
            self.first = nn.Conv2d(channels * self.patch**2, self.settings["channels"], 3, padding=1)
        self.of_vector = nn.Linear(vector, embedding) if vector else None
        self.of_level = (
            nn.Sequential(nn.Linear(self.time_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
            if level
            else None
        )

    def forward(
        self,
        x_t: Images,
        t: OneEach,
        y: OneEach | None = None,
        picture: Float[Tensor, "batch picture_channel height width"] | None = None,
        vector: Float[Tensor, "batch numbers"] | None = None,
        level: OneEach | None = None,
    ) -> Images:
        """The prediction, of x_t's shape. Side inputs that the network was made for must be given, others must not."""
        times, labels = self._check(x_t, t, y)
        embedding, h = self._embedded(times, labels, x_t.dtype), self._centred(x_t, times)
        asked = {"picture": self.picture_channels > 0, "vector": self.vector > 0, "level": self.of_level is not None}
        for name, value in (("picture", picture), ("vector", vector), ("level", level)):
            if asked[name] != (value is not None):
                raise ValueError(f"{name} must {'be given' if asked[name] else 'be None, this network takes none'}")
        if picture is not None:
            check_tensor("picture", picture, (len(x_t), self.picture_channels, *x_t.shape[2:]), self)
            h = torch.cat([h, picture], dim=1)
        if vector is not None and self.of_vector is not None:
            check_tensor("vector", vector, (len(x_t), self.vector), self)
            embedding = embedding + self.of_vector(vector)
        if level is not None and self.of_level is not None:
            levels = one_each("level", level, x_t)
            embedding = embedding + self.of_level(time_embedding(levels, self.time_dim).to(x_t.dtype))
        return self._answer(self._through(h, embedding))
