"""The autoencoder of latent diffusion: convolutions to a small map of Gaussian codes, and back (chapter 18).

    x -> encoder -> mean and log variance of q(z|x), maps of C x H/4 x W/4 -> z = mean + sigma eps -> decoder -> the image

It is the VAE of models/vae.py with convolutions and with a Gaussian decoder N(D(z), theta I). The variance theta is no weight
of the network: it is the weight of the two terms against each other, and belongs to the objective (book, eq. 18.2). After
Rombach et al. 2022, section 3.1, who add a perceptual loss and a discriminator.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, check_tensor, integer
from diffnotes.models.codes import SHRINK, decoder, encoder
from diffnotes.models.vae import PerImage, prior_kl, reparameterize

Images = Float[Tensor, "batch 1 height width"]
Maps = Float[Tensor, "batch channel rows columns"]
LOWEST, HIGHEST = -30.0, 20.0  # of a log variance: beyond, exp of it has no digits left


@dataclass(frozen=True)
class AutoencoderTerms:
    """The two terms of the loss (book, eq. 18.2), each of shape (B,).

    squared_error  ||x - D(z)||^2, summed over the pixels
    rate           D_KL(q(z|x) || N(0, I)), in nats, summed over the code"""

    squared_error: PerImage
    rate: PerImage


class Autoencoder(nn.Module):
    """encode(x) -> mean and log variance of the code; decode(z) -> the image.

    latent_channels  C, the channels of a code: C x 7 x 7 numbers for an image of 28 x 28 pixels
    width, blocks    channels, and residual blocks each of encoder and decoder

    Images are (B, 1, H, W) in [-1, 1], H and W divisible by 4. `settings` builds the same network again."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(self, latent_channels: IntLike = 4, width: IntLike = 32, blocks: IntLike = 1) -> None:
        super().__init__()
        latent_channels = integer("latent_channels", latent_channels, "at least 1", 1)
        width, blocks = integer("width", width, "at least 1", 1), integer("blocks", blocks, "at least 0", 0)
        self.settings: dict[str, Any] = dict(latent_channels=latent_channels, width=width, blocks=blocks)
        self.latent_channels = latent_channels
        self.encoder = encoder(2 * latent_channels, width, blocks)
        self.decoder = decoder(latent_channels, width, blocks)

    def code_shape(self, x: Images) -> tuple[int, int, int]:
        """The shape (C, H/4, W/4) of the code of an image of this size."""
        check_tensor("x", x, ("B", 1, "H", "W"), self)
        if x.shape[2] % SHRINK or x.shape[3] % SHRINK or not x.shape[2] * x.shape[3]:
            raise ValueError(f"x must have height and width divisible by {SHRINK}, got {tuple(x.shape[2:])}")
        return self.latent_channels, x.shape[2] // SHRINK, x.shape[3] // SHRINK

    def encode(self, x: Images) -> tuple[Maps, Maps]:
        """Mean and log variance of q(z|x), each (B, C, H/4, W/4)."""
        self.code_shape(x)
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(LOWEST, HIGHEST)

    def decode(self, z: Maps) -> Images:
        """The image D(z) of codes z (B, C, H, W): (B, 1, 4H, 4W), in [-1, 1]."""
        check_tensor("z", z, ("B", self.latent_channels, "H", "W"), self)
        return self.decoder(z).tanh()

    def terms(self, x: Images, eps: Maps) -> AutoencoderTerms:
        """Squared error and rate, with one draw z = mean + sigma eps for each image; eps standard normal, of the code's shape."""
        mean, log_variance = self.encode(x)
        check_tensor("eps", eps, tuple(mean.shape), self)
        decoded = self.decode(reparameterize(mean, log_variance, eps))
        return AutoencoderTerms((x - decoded).square().flatten(1).sum(1), prior_kl(mean, log_variance))
