"""The game of a GAN: what the discriminator and what the generator minimise, and the gradient penalty (book, chapter 21).

All take logits, never probabilities: log sigma(l) is computed as a softplus, which stays finite.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from diffnotes.process.arguments import check_callable, check_floats, choice, shown

LOSSES = ("non-saturating", "saturating", "hinge")
Logits = Float[Tensor, "batch"]


def discriminator_loss(kind: str, real: Float[Tensor, "_"], fake: Float[Tensor, "_"]) -> Float[Tensor, ""]:
    """What the discriminator minimises, from its logits of real and of drawn images: twice the cross-entropy of telling them
    apart, -mean log sigma(real) - mean log(1 - sigma(fake)), which is -V (book, eq. 21.1); or, of "hinge",
    mean max(0, 1 - real) + mean max(0, 1 + fake) (book, eq. 21.7). Goodfellow et al. 2014, eq. 1; Lim and Ye 2017."""
    choice("kind", kind, LOSSES)
    _check_logits("real", real)
    _check_logits("fake", fake)
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(kind: str, fake: Logits) -> Float[Tensor, ""]:
    """What the generator minimises, from the discriminator's logits of its images: mean log(1 - sigma(fake)) if
    "saturating", mean -log sigma(fake) if "non-saturating" (book, eq. 21.4), -mean fake if "hinge"."""
    choice("kind", kind, LOSSES)
    _check_logits("fake", fake)
    if kind == "hinge":
        return -fake.mean()
    return F.softplus(-fake).mean() if kind == "non-saturating" else -F.softplus(fake).mean()


def gradient_penalty(discriminator: Any, x: Tensor, y: Tensor | None = None) -> Logits:
    """|grad_x logit(x)|^2 of each item of x, summed over its pixels, (B,); the caller takes gamma / 2 times the mean, which is
    the penalty R1 where x are real images (book, eq. 21.8; Mescheder et al. 2018, eq. 9). It has a gradient itself.

    The logit of an item must depend on no other item: batch normalisation in the discriminator makes it wrong."""
    check_callable("discriminator", discriminator, "discriminator(x)")
    check_floats("x", x)
    x = x.detach().requires_grad_()
    logits = discriminator(x) if y is None else discriminator(x, y)
    if not isinstance(logits, Tensor) or logits.shape != x.shape[:1] or not logits.requires_grad:
        raise ValueError(
            f"discriminator must answer with a logit for each item of x, (B,), that depends on it, got {shown(logits)}"
        )
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)  # of the sum: each item has its own
    return gradient.square().flatten(1).sum(1)


def _check_logits(name: str, logits: Tensor) -> None:
    check_floats(name, logits, "(B,)")
    if logits.ndim != 1 or not len(logits):
        raise ValueError(
            f"{name} must hold a logit for each of one or more images, (B,), got shape {tuple(logits.shape)}"
        )
