"""The two networks of a GAN for images of 28 x 28 pixels: one draws, the other tells drawn images from real ones.

    z -> Generator -> an image          an image -> Discriminator -> a logit, log p(real) - log p(drawn)

After Goodfellow et al. 2014 and, for the layers, Radford et al. 2015 (DCGAN). The discriminator has no normalisation across
the batch: its gradient penalty needs a logit that depends on one image alone.
"""

import functools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, integer, one_each

SIDE = 28
SLOPE = 0.2  # of the leaky ReLU below 0
Images = Float[Tensor, "batch 1 28 28"]


class Generator(nn.Module):
    """generator(z, y=None): images (B, 1, 28, 28) in [-1, 1] of noise z (B, dim), z ~ N(0, I): a sample in one call.

    dim          numbers of z
    channels     of the 14 x 14 maps; the 7 x 7 maps have twice as many
    num_classes  labels 0..K-1 that can be asked for; None: no labels. A label enters as `dim` learned numbers beside z

    Batch normalisation after the first two layers, as in DCGAN: in eval mode an image depends on its own z and y alone.
    `settings` builds the same network again."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(self, dim: IntLike = 64, channels: IntLike = 32, num_classes: IntLike | None = None) -> None:
        super().__init__()
        dim, channels = integer("dim", dim, "at least 1", 1), integer("channels", channels, "at least 1", 1)
        self.dim, self.num_classes = dim, _classes(num_classes)
        self.settings = dict(dim=dim, channels=channels, num_classes=self.num_classes)
        self.label = None if self.num_classes is None else nn.Embedding(self.num_classes, dim)
        self.layers = nn.Sequential(
            nn.Linear(dim if self.label is None else 2 * dim, 2 * channels * 7 * 7), nn.Unflatten(1, (2 * channels, 7, 7)),
            nn.BatchNorm2d(2 * channels), nn.ReLU(),
            nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),  # 14 x 14
            nn.ConvTranspose2d(channels, 1, 4, 2, 1), nn.Tanh(),  # 28 x 28
        )  # fmt: skip

    def forward(self, z: Float[Tensor, "batch dim"], y: OneEach | None = None) -> Images:
        """The images of noise z (B, dim) and, where the network takes them, of labels y (B,)."""
        check_tensor("z", z, ("B", self.dim), self)
        labels = _labels("generator", y, z, self.num_classes)
        if self.label is not None and labels is not None:
            z = torch.cat([z, self.label(labels)], 1)
        return self.layers(z)


class Discriminator(nn.Module):
    """discriminator(x, y=None): for images x (B, 1, 28, 28) a logit each, (B,): above 0 where it takes an image for real.

    channels     of the first convolution; the second has twice and the third four times as many
    spectral     whether every layer is divided by its largest singular value (of its kernel as a matrix: book, eq. 21.9)
    num_classes  labels 0..K-1 that come with the images; None: no labels. They enter as a projection (Miyato and Koyama
                 2018): logit = w . f(x) + e_y . f(x), f the last layer's features and e_y learned for each label

    The output is the logit, never a probability: the losses need it (training/adversarial_losses.py)."""

    def __init__(self, channels: IntLike = 24, spectral: bool = False, num_classes: IntLike | None = None) -> None:
        super().__init__()
        channels = integer("channels", channels, "at least 1", 1)
        if not isinstance(spectral, bool):
            raise ValueError(f"spectral must be True or False, got {spectral!r:.80}")
        self.num_classes = _classes(num_classes)
        self.settings = dict(channels=channels, spectral=spectral, num_classes=self.num_classes)
        bounded = spectral_norm if spectral else lambda layer: layer
        activation = functools.partial(nn.LeakyReLU, SLOPE)
        self.features = nn.Sequential(
            bounded(nn.Conv2d(1, channels, 4, 2, 1)), activation(),  # 14 x 14
            bounded(nn.Conv2d(channels, 2 * channels, 4, 2, 1)), activation(),  # 7 x 7
            bounded(nn.Conv2d(2 * channels, 4 * channels, 3, 2, 1)), activation(), nn.Flatten(),  # 4 x 4
        )  # fmt: skip
        self.logit = bounded(nn.Linear(4 * channels * 16, 1))
        self.label = None if self.num_classes is None else nn.Embedding(self.num_classes, 4 * channels * 16)
        if self.label is not None:
            nn.init.zeros_(self.label.weight)  # at first the label says nothing

    def forward(self, x: Images, y: OneEach | None = None) -> Float[Tensor, "batch"]:
        """The logits of images x (B, 1, 28, 28) and, where the network takes them, of their labels y (B,)."""
        check_tensor("x", x, ("B", 1, SIDE, SIDE), self)
        labels = _labels("discriminator", y, x, self.num_classes)
        f = self.features(x)
        logit = self.logit(f)[:, 0]
        return logit if self.label is None or labels is None else logit + (self.label(labels) * f).sum(1)


def _classes(num_classes: IntLike | None) -> int | None:
    return None if num_classes is None else integer("num_classes", num_classes, "at least 1, or None", 1)


def _labels(kind: str, y: OneEach | None, x: Tensor, num_classes: int | None) -> Tensor | None:
    """The labels as (B,) int64 where the network takes them, and None where it does not."""
    if num_classes is None:
        if y is not None:
            raise ValueError(f"y was given, but this {kind} was made without labels (num_classes=None)")
        return None
    if y is None:
        raise ValueError(f"y must hold a label for each image: this {kind} was made with num_classes={num_classes}")
    labels = one_each("y", y, x)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"y must hold labels 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    return labels
