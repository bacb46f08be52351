"""A small variational autoencoder for black-and-white images of 28 x 28 pixels; its latent space is a plane.

    x -> encoder -> mean and log variance of q(z|x) -> z = mean + sigma eps -> decoder -> a probability of ink per pixel

The decoder is Bernoulli: each pixel is +1 (ink) or -1, independently of the others once z is known. So the likelihood is
a probability, its logarithm is at most 0, and the ELBO is in nats per image. After Kingma and Welling 2013, appendix C.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, check_tensor, integer

SIDE = 28
Images = Float[Tensor, "batch 1 height width"]
Codes = Float[Tensor, "batch latent"]
Moments = Float[Tensor, "#batch *item"]  # of vectors (B, latent) or of maps (B, C, H, W)
PerImage = Float[Tensor, "batch"]
VECTOR, MAP = ("latent",), ("C", "H", "W")  # the axes of a code


@dataclass(frozen=True)
class VAETerms:
    """The two terms of the ELBO, and the ELBO itself, in nats for each image: elbo = reconstruction - prior_kl
    (book, eq. 10.6). Every one has shape (B,)."""

    reconstruction: PerImage
    prior_kl: PerImage

    @property
    def elbo(self) -> PerImage:
        """reconstruction - prior_kl, nats, (B,): at most log p(x), if the reconstruction term is exact."""
        return self.reconstruction - self.prior_kl


def binarize(x: Images) -> Images:
    """The images with every pixel +1 (above 0: ink) or -1: the data of a Bernoulli decoder."""
    check_tensor("x", x, ("B", 1, "H", "W"))
    if bool(x.isnan().any()):
        raise ValueError("x must hold numbers, found NaN")
    return torch.where(x > 0, 1.0, -1.0).to(x.dtype)


def reparameterize(mean: Moments, log_variance: Moments, eps: Float[Tensor, "..."]) -> Tensor:
    """z = mean + sigma eps, sigma = exp(log_variance / 2) (book, eq. 10.8), of eps's shape, for vectors (B, latent) or maps
    (B, C, H, W).

    With eps ~ N(0, I) it is a draw of N(mean, diag sigma^2), through which gradients reach mean and log_variance
    (Kingma and Welling 2013, section 2.4)."""
    latent = MAP if _is_map(mean) else VECTOR
    check_tensor("eps", eps, ("...", "B", *latent))
    item = tuple(eps.shape[-len(latent) :])
    for name, moment in (("mean", mean), ("log_variance", log_variance)):
        check_tensor(name, moment, ((1, eps.shape[-len(latent) - 1]), *item))
    return mean + (log_variance / 2).exp() * eps


def prior_kl(mean: Moments, log_variance: Moments) -> PerImage:
    """D_KL(N(mean, diag sigma^2) || N(0, I)) = 1/2 sum_j (mean_j^2 + sigma_j^2 - 1 - log sigma_j^2), in nats, (B,), for vectors
    (B, latent) or maps (B, C, H, W) (book, eq. 10.9; Kingma and Welling 2013, appendix B)."""
    check_tensor("mean", mean, ("B", *(MAP if _is_map(mean) else VECTOR)))
    check_tensor("log_variance", log_variance, tuple(mean.shape))
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)


def _is_map(mean: Tensor) -> bool:
    return isinstance(mean, Tensor) and mean.ndim == 4


class VAE(nn.Module):
    """Encoder q(z|x) = N(mean(x), diag sigma^2(x)), prior p(z) = N(0, I), Bernoulli decoder p(x|z).

    latent  coordinates of z; 2 makes it a plane that can be drawn
    width   width of the larger hidden layer of encoder and decoder; the smaller has half of it

    Images are black and white, every pixel +1 or -1, (B, 1, 28, 28); any other raises ValueError."""

    def __init__(self, latent: IntLike = 2, width: IntLike = 256) -> None:
        super().__init__()
        latent, width = integer("latent", latent, "at least 1", 1), integer("width", width, "at least 2", 2)
        self.settings = dict(latent=latent, width=width)
        self.latent = latent
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(SIDE**2, width), nn.SiLU(), nn.Linear(width, width // 2), nn.SiLU(),
            nn.Linear(width // 2, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, width // 2), nn.SiLU(), nn.Linear(width // 2, width), nn.SiLU(), nn.Linear(width, SIDE**2)
        )

    def encode(self, x: Images) -> tuple[Codes, Codes]:
        """Mean and log variance of q(z|x) for black-and-white images x (B, 1, 28, 28), each (B, latent)."""
        self._check_images(x)
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def logits(self, z: Codes) -> Images:
        """log P(ink) - log P(no ink) of every pixel, (B, 1, 28, 28), for codes z (B, latent)."""
        check_tensor("z", z, ("B", self.latent), self)
        return self.decoder(z).unflatten(1, (1, SIDE, SIDE))

    def decode(self, z: Codes) -> Images:
        """The mean image E[x|z] = P(ink) - P(no ink), in [-1, 1], (B, 1, 28, 28)."""
        return torch.tanh(self.logits(z) / 2)

    def log_likelihood(self, x: Images, z: Codes) -> PerImage:
        """log p(x|z) = sum over pixels of log sigmoid(x_i logit_i), for x_i = +1 or -1; nats, (B,), never above 0."""
        self._check_images(x)
        check_tensor("z", z, (len(x), self.latent), self)
        return F.logsigmoid(x * self.logits(z)).flatten(1).sum(1)

    def elbo(self, x: Images, eps: Float[Tensor, "draws batch latent"]) -> VAETerms:
        """The two terms of the ELBO (book, eq. 10.6), the reconstruction term estimated from
        L draws (book, eq. 10.11). eps: (L, B, latent), standard normal."""
        mean, log_variance = self.encode(x)
        self._check_noise(eps, len(x))
        codes = reparameterize(mean, log_variance, eps)  # (L, B, latent)
        log_p = torch.stack([self.log_likelihood(x, z) for z in codes])  # log p(x|z), (L, B)
        return VAETerms(log_p.mean(0), prior_kl(mean, log_variance))

    def _check_noise(self, eps: Tensor, batch: int) -> None:
        check_tensor("eps", eps, ("L", batch, self.latent), self)
        if len(eps) == 0:
            raise ValueError("eps must hold one or more draws for each image, got none")

    def _check_images(self, x: Tensor) -> None:
        check_tensor("x", x, ("B", 1, SIDE, SIDE), self)
        if not bool((x.abs() == 1).all()):
            raise ValueError(
                "x must be black and white, every pixel +1 or -1: a Bernoulli decoder gives no other grey a probability; "
                f"got a pixel of {x[x.abs() != 1][0].item():.3g}; use binarize(x)"
            )
