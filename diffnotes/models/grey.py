"""A distribution over grey values for every pixel of a noisy image: a small network on the last features of a frozen U-Net.

    features, x_t, x0_hat  ->  GreyHead  ->  for each pixel: spikes at black and white, and two Gaussians    (a prior)
    prior  x  N(x_t; sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t)  ->  GreyMixture: mean, variance, probabilities   (Bayes' rule)

What the prior takes from the whole image, the pixel's own noisy value then refines: the second factor is known exactly and
need not be learned (book, eq. 12.9). The mean and the variance serve the steps of a chain, the probabilities its last one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, integer, one_each
from diffnotes.models.unet import Images, ResidualBlock, UNet, time_embedding

Features = Float[Tensor, "batch feature height_in_patches width_in_patches"]
Components = Float[Tensor, "component batch channel height width"]
SMALLEST = math.log(0.002)  # of a Gaussian's standard deviation: a quarter of a grey step
HALF_STEP = 1 / 255  # half the distance of two grey values


@dataclass(frozen=True, eq=False)
class GreyMixture:
    """A mixture for each pixel: weight j at mean[j] with variance[j], float64. The first two components are points, black
    (-1) and white (+1), with variance 0."""

    log_weight: Components
    mean: Components
    variance: Components

    def moments(self) -> tuple[Images, Images]:
        """Mean and variance of each pixel."""
        weight = self.log_weight.exp()
        mean = (weight * self.mean).sum(0)
        return mean, (weight * (self.variance + (self.mean - mean) ** 2)).sum(0)

    def log_probability(self, x0: Images) -> Images:
        """log P(x0) for each pixel, in nats, where x0 is one of the 256 grey values: a Gaussian gives each of them the
        probability of its interval (book, eq. 3.7), a point gives all of it to black or white."""
        x0 = x0.double()
        mean, std = self.mean[2:], self.variance[2:].sqrt()
        lower = torch.where(x0 < -1 + HALF_STEP, -math.inf, (x0 - HALF_STEP - mean) / std)
        upper = torch.where(x0 > 1 - HALF_STEP, math.inf, (x0 + HALF_STEP - mean) / std)
        flip = (
            lower + upper > 0
        )  # log(Phi(b) - Phi(a)) is taken in the lower tail, where the difference keeps its digits
        a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
        log_a, log_b = torch.special.log_ndtr(a.clamp(min=-1e4)), torch.special.log_ndtr(b.clamp(max=1e4))
        between = log_b + torch.log1p(-torch.exp((log_a - log_b).clamp(max=-1e-12)))
        points = [torch.where(there, 0.0, -math.inf) for there in (x0 < -1 + HALF_STEP, x0 > 1 - HALF_STEP)]
        return torch.logsumexp(self.log_weight + torch.cat([torch.stack(points), between]), 0)

    def moved(self, shift: Tensor, factor: Tensor, variance: Tensor) -> "GreyMixture":
        """The mixture of shift + factor x_0 + noise of this variance, where x_0 has this mixture: again a mixture."""
        return GreyMixture(self.log_weight, shift + factor * self.mean, factor**2 * self.variance + variance)

    def log_density(self, x: Images) -> Images:
        """log p(x) for each pixel in nats; infinite at the points, so move the mixture first."""
        each = -((x - self.mean) ** 2 / self.variance + (2 * math.pi * self.variance).log()) / 2
        return torch.logsumexp(self.log_weight + each, 0)

    def draw(self, lot: Images, noise: Images) -> Images:
        """A grey value for each pixel, independently of the others, float64, from two kinds of standard normal noise: `lot`
        chooses the component, `noise` is that of the Gaussian."""
        share = torch.special.ndtr(lot.double())
        chosen = (share[None] > self.log_weight.exp().cumsum(0)[:-1]).sum(0, keepdim=True)
        value = self.mean.gather(0, chosen)[0] + self.variance.gather(0, chosen)[0].sqrt() * noise.double()
        return ((value.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def posterior_mixture(
    log_weight: Components, mean: Components, std: Components, x_t: Images, abar: Float[Tensor, "batch"]
) -> GreyMixture:
    """Bayes' rule for each pixel: the mixture sum_j w_j N(x_0; mean_j, std_j^2), times N(x_t; sqrt(abar) x_0, 1 - abar). Of each
    component another Gaussian is left, and its weight grows by how well it explains x_t (book, eq. 12.9)."""
    x_t = x_t.double()
    a, noise = (value.double()[:, None, None, None] for value in (abar.sqrt(), 1 - abar))
    spread = std.double() ** 2
    total = a**2 * spread + noise
    evidence = -((x_t - a * mean) ** 2) / (2 * total) - total.log() / 2
    weight = (log_weight.double() + evidence).log_softmax(0)
    return GreyMixture(weight, (mean * noise + a * spread * x_t) / total, spread * noise / total)


class GreyHead(nn.Module):
    """head(features, x_t, x0_hat, t) -> (log weights, means, standard deviations) of each pixel's prior, (2 + gaussians) each.

    features   channels of the U-Net's last feature maps, which have a position for each patch of patch x patch pixels
    width      channels inside; `blocks` residual blocks
    gaussians  components besides the points at black and white; their means are counted from x0_hat"""

    def __init__(
        self,
        features: IntLike = 24,
        width: IntLike = 64,
        blocks: IntLike = 3,
        gaussians: IntLike = 2,
        patch: IntLike = 2,
    ) -> None:
        super().__init__()
        features = integer("features", features, "at least 1", 1)
        width, blocks = integer("width", width, "at least 1", 1), integer("blocks", blocks, "at least 1", 1)
        gaussians, patch = integer("gaussians", gaussians, "at least 1", 1), integer("patch", patch, "at least 1", 1)
        self.settings = dict(features=features, width=width, blocks=blocks, gaussians=gaussians, patch=patch)
        self.gaussians, self.patch, self.time_dim = gaussians, patch, 2 * width
        self.time = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width))
        self.first = nn.Conv2d(features + 2 * patch**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 2 * width) for _ in range(blocks))
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.last = nn.Conv2d(width, (2 + 3 * gaussians) * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        start = torch.tensor([1.0, -1.0, *[0.0] * 2 * gaussians, *torch.linspace(-3.0, -1.0, gaussians).tolist()])
        with torch.no_grad():  # black is frequent; one narrow Gaussian and one wide around x0_hat
            self.last.bias.copy_(start.repeat_interleave(patch**2))  # type: ignore[union-attr]

    def forward(
        self, features: Features, x_t: Images, x0_hat: Images, t: OneEach
    ) -> tuple[Components, Components, Components]:
        """The three parts of the prior, (2 + gaussians, B, 1, H, W) each."""
        check_tensor("x_t", x_t, ("B", 1, "H", "W"), self)
        embedding = self.time(time_embedding(one_each("t", t, x_t), self.time_dim).to(x_t.dtype))
        folded = [F.pixel_unshuffle(image, self.patch) for image in (x_t, x0_hat.to(x_t.dtype))]
        h = self.first(torch.cat([features, *folded], 1))
        for block in self.blocks:
            h = block(h, embedding)
        answer = F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch).double()
        points, weights, shifts, scales = answer.split([2, *[self.gaussians] * 3], 1)
        x0_hat = x0_hat.double().clamp(-1, 1)
        edges = torch.tensor([-1.0, 1.0], dtype=torch.float64, device=x_t.device)[:, None, None]
        mean = torch.cat([edges + 0 * points, x0_hat + shifts], 1)
        std = torch.cat([0 * points, scales.clamp(SMALLEST, 1.0).exp()], 1)
        parts = (torch.cat([points, weights], 1).log_softmax(1), mean, std)
        log_weight, mean, std = (part.movedim(1, 0)[:, :, None] for part in parts)
        return log_weight, mean, std


class GreyDenoiser(nn.Module):
    """A frozen U-Net with a GreyHead on it: called like a network, model(x_t, t, y), with target "x0".

    As a denoiser it predicts what the U-Net does, or with keep_mean=False the mean of its own grey values. Besides,
    `moments` says how far off that prediction is, pixel by pixel, and `log_probability` decodes."""

    target = "x0"

    def __init__(self, unet: UNet, head: GreyHead, alpha_bar: Float[Tensor, "times"], keep_mean: bool = True) -> None:
        super().__init__()
        if not isinstance(unet, UNet) or not isinstance(head, GreyHead):
            raise ValueError(
                f"unet and head must be a UNet and a GreyHead, got {type(unet).__name__}, {type(head).__name__}"
            )
        width, patch = unet.norm.num_channels, unet.patch
        if (head.settings["features"], head.patch) != (width, patch):
            raise ValueError(
                f"head must be made for {width} features and patches of {patch}, as the U-Net has, "
                f"got {head.settings['features']} and {head.patch}"
            )
        self.unet, self.head, self.keep_mean = unet.requires_grad_(False), head, keep_mean
        self.num_classes, self.item_shape, self.classes = unet.num_classes, unet.item_shape, unet.classes
        self.register_buffer("alpha_bar", alpha_bar.double())

    def train(self, mode: bool = True) -> "GreyDenoiser":
        """The head in training mode or not; the U-Net is frozen and stays in eval mode."""
        super().train(mode)
        self.unet.eval()
        return self

    def mixture(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> tuple[GreyMixture, Images]:
        """Each pixel's distribution over grey values given x_t, and the U-Net's own x0_hat, float64."""
        times = one_each("t", t, x_t)
        abar = self.alpha_bar[times]  # type: ignore[index]
        with torch.no_grad():
            features = self.unet.features(x_t, times, y)
            output = F.pixel_shuffle(self.unet.last(F.silu(self.unet.norm(features))), self.unet.patch).double()
            a, b = (root[:, None, None, None] for root in (abar.sqrt(), (1 - abar).sqrt()))
            if self.unet.target == "x0":
                x0_hat = output
            else:
                x0_hat = a * x_t - b * output if self.unet.target == "v" else (x_t - b * output) / a
        log_weight, mean, std = self.head(features, x_t, x0_hat.clamp(-1, 1), times)
        return posterior_mixture(log_weight, mean, std, x_t, abar), x0_hat

    def moments(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> tuple[Images, Images]:
        """The prediction of x_0, and its expected squared error, pixel by pixel, float64."""
        mixture, x0_hat = self.mixture(x_t, t, y)
        mean, variance = mixture.moments()
        return (x0_hat, variance + (mean - x0_hat) ** 2) if self.keep_mean else (mean, variance)

    def log_probability(self, x0: Images, x_t: Images, t: OneEach, y: OneEach | None = None) -> Float[Tensor, "batch"]:
        """log P(x0 | x_t) in nats, summed over the pixels, for x0 of 256 grey values: the decoder of a chain's last step."""
        return self.mixture(x_t, t, y)[0].log_probability(x0).flatten(1).sum(1)

    def forward(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> Images:
        """The prediction of x_0, in x_t's dtype."""
        return self.moments(x_t, t, y)[0].to(x_t.dtype)
