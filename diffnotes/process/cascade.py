"""Small first, then large: a cascade of two diffusion models, the second conditioned on the small image of the first.

    p(x) = p(c) p(x | c),   c = A x the means of 2 x 2 pixels                                    (book, eq. 18.9)
    c_s = sqrt(alpha_bar_s) c + sqrt(1 - alpha_bar_s) eps                                         (book, eq. 18.12)

The second model is trained on small images of real ones and meets drawn ones. Noise on both makes them alike, if the model is
given its level too: conditioning augmentation (Ho et al. 2022, Cascaded Diffusion Models, section 4.2).
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from diffnotes.process.arguments import FloatLike, IntLike, Labels, as_int, check_floats, check_images, integer
from diffnotes.process.forward import Images, Times, q_sample
from diffnotes.process.given import Given
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import Frame, Noise, ddim_sample
from diffnotes.process.schedules import Schedule, check_t

LARGEST = 64  # factor between two sizes
Maps = Float[Tensor, "batch channel height width"]
Resized = Float[Tensor, "batch channel height_out width_out"]


def shrink(x: Maps, factor: IntLike = 2) -> Resized:
    """c = A x: the mean of each factor x factor pixels, (B, C, H, W) to (B, C, H / factor, W / factor) (book, eq. 18.9)."""
    factor = _factor("x", x, factor)
    if x.shape[2] % factor or x.shape[3] % factor or not x.shape[2] * x.shape[3]:
        raise ValueError(f"x must have height and width divisible by factor = {factor}, got {tuple(x.shape[2:])}")
    return F.avg_pool2d(x, factor)


def enlarge(c: Maps, factor: IntLike = 2) -> Resized:
    """Each pixel factor x factor times, (B, C, H, W) to (B, C, factor H, factor W): shrink(enlarge(c)) = c."""
    factor = _factor("c", c, factor)
    return c.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def augment(schedule: Schedule, c: Images, s: Times, eps: Images) -> Images:
    """c_s = sqrt(alpha_bar_s) c + sqrt(1 - alpha_bar_s) eps, s in 0..T for each image; s = 0 leaves c as it is
    (book, eq. 18.12; Ho et al. 2022, section 4.2). The second model must be given the same s."""
    check_images(c=c, eps=eps)
    levels = check_t(schedule, s, lowest=0, name="s")
    if levels.ndim and levels.shape != (len(c),):
        raise ValueError(
            f"s must be one level, or one for each of the {len(c)} images, got shape {tuple(levels.shape)}"
        )
    return q_sample(schedule, c, levels, eps)


def second_given(second: Any, schedule: Schedule, c: Maps, s: IntLike, eps: Maps, factor: IntLike = 2) -> Given:
    """The second model with small images c, noised to the level s with eps and enlarged, and with s if it takes levels."""
    s = integer("s", s, 0, schedule.T, "T = ")
    level = {"level": torch.full((len(c),), s)} if getattr(second, "of_level", None) is not None else {}
    return Given(second, picture=enlarge(augment(schedule, c, s, eps), factor), **level)


def cascade_sample(
    base: Denoiser,
    second: Any,
    schedule: Schedule,
    x_T: Maps,
    *,
    s: IntLike = 0,
    steps: IntLike = 20,
    eta: FloatLike = 1.0,
    clip: bool = True,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Draw small images with `base` from x_T (B, C, h, w), noise them to the level s, and draw the large ones
    (B, C, 2h, 2w) given these with `second`, both by DDIM: yields the frames of the one, then of the other, steps + 1 each.

    second    called as second(x_t, t, y, picture=c_s) and, if it takes one, level=s (models/conditioned.py)
    generator a torch.Generator, None, or a seed: then image i depends on the seed and on i only"""
    s = integer("s", s, 0, schedule.T, "T = ")
    seed = as_int(generator)
    first, noise, last = (generator,) * 3 if seed is None else (3 * seed, 3 * seed + 1, 3 * seed + 2)
    how: dict[str, Any] = {"steps": steps, "eta": eta, "clip": clip, "y": y}
    for frame in ddim_sample(base, schedule, x_T, generator=first, **how):
        yield frame
    c = frame.x_t
    source = Noise(noise, len(c))
    eps, start = source.like(c), source.like(enlarge(c))
    yield from ddim_sample(second_given(second, schedule, c, s, eps), schedule, start, generator=last, **how)


def _factor(name: str, x: Tensor, factor: IntLike) -> int:
    check_floats(name, x, "(B, C, H, W)")
    if x.ndim != 4:
        raise ValueError(f"{name} must be images of shape (B, C, H, W), got shape {tuple(x.shape)}")
    return integer("factor", factor, 1, LARGEST)
