"""Exercises of chapter 5: the U-Net."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch.nn import functional as F

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar
from diffnotes.models.unet import UNet, time_embedding

# -- 5.1: a larger picture ----------------------------------------------------------------------------------------------


def _small_unet() -> UNet:
    """With the same weights every time, and the reader's random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(channels=32, multipliers=(1, 2), blocks=1, patch=2)


def _cost(side: int) -> tuple[int, int]:
    """The weights of the network, and its multiplications and additions for one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    network = _small_unet()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, side, side), torch.tensor([500]))
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops()


@cache
def _twice_the_side() -> tuple[str, Rows]:
    (weights, work), (weights_large, work_large) = _cost(28), _cost(56)
    ratio = work_large / work
    letter = "a" if weights_large > weights else "b" if ratio == 4 else "c" if 4 < ratio < 8 else "d"
    rows = [
        (f"{side} × {side}", f"{w:,} weights, {f / 1e6:.1f} million operations")
        for side, w, f in ((28, weights, work), (56, weights_large, work_large))
    ]
    return letter, (*rows, ("times the work", f"{ratio:.2f}"))


# -- 5.2: what is lost without the skips --------------------------------------------------------------------------------

j = sp.Symbol("j", integer=True, positive=True)


def _error_without_skips() -> sp.Expr:
    """The noise of a pixel less the mean over its square of n pixels: its own noise, and that of n - 1 others."""
    n = 4**j
    return abar * ((1 - 1 / n) ** 2 + (n - 1) * (1 / n) ** 2)


# -- 5.3: a clock with one hand -----------------------------------------------------------------------------------------

ALIKE = 0.02


def _two_times(answer: Any) -> tuple[int, int]:
    first, second = numbers(answer, 2)
    if any(t != int(t) or not 1 <= t <= 1000 for t in (first, second)) or first == second:
        raise ValueError(f"no two times: {answer}")
    return int(first), int(second)


def _alike(times: tuple[int, int]) -> tuple[bool, str, Rows]:
    apart = {d: time_embedding(torch.tensor(times), d).diff(dim=0).norm().item() for d in (2, 48)}
    turns = abs(times[1] - times[0]) / math.tau
    over = abs(turns - round(turns))  # from the nearest whole turn
    rows = (
        ("turns of the hand between them", f"{turns:.3f}"),
        ("distance of the two embeddings", f"{apart[2]:.4f}"),
        ("the same with the 24 hands of the network, d = 48", f"{apart[48]:.2f}"),
    )
    broken = apart[2] < ALIKE
    if broken:
        words = (
            "Nearly a whole number of turns, and the hand is back where it was. What the network should predict at the two "
            "times differs, its input does not. With slower hands beside this one, the embeddings differ."
        )
    elif over < 0.1:
        words = (
            "Nearly a whole number of turns, but the rest is still to be seen: 2π is no whole number. Go on turning, "
            "until a multiple of it is nearly one."
        )
    elif over > 0.4:
        words = "About half a turn too many: the hand points the other way, and two embeddings can hardly be further apart (5.3)."
    else:
        words = "The hand points elsewhere. How many steps does it take to come round, once and several times?"
    return broken, words, rows


# -- 5.4: how far it sees -----------------------------------------------------------------------------------------------

Layers = list[tuple[int, int]]


def _seen(layers: Layers) -> int:
    """Measured: the positions of a line that have a gradient, from the first to the last."""
    line = torch.ones(1, 1, 1000, dtype=torch.float64, requires_grad=True)
    h: torch.Tensor = line
    for width, stride in layers:
        h = F.conv1d(h, torch.ones(1, 1, width, dtype=torch.float64), stride=stride)
    (gradient,) = torch.autograd.grad(h[0, 0, h.shape[2] // 2], line)
    positions = gradient[0, 0].nonzero()
    return int(positions.max() - positions.min()) + 1


def _stacks(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    def one_of(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    stacks: list[Layers] = [[(3, 1), (3, 2), (3, 1)]]
    for depth in (2, 3, 4, 5):
        strides = [one_of(1, 2) for _ in range(depth)]
        stacks.append([(one_of(stride, 5), stride) for stride in strides])
    for layers in stacks:
        yield {"layers": layers}, _seen(layers)


def _without_strides(layers: Layers) -> int:
    return 1 + sum(width - 1 for width, _ in layers)


def _with_its_own_stride(layers: Layers) -> int:
    return 1 + sum(
        (width - 1) * math.prod(stride for _, stride in layers[: i + 1]) for i, (width, _) in enumerate(layers)
    )


def _from_the_front(layers: Layers) -> int:
    n = 1
    for width, stride in layers:
        n = width + stride * (n - 1)
    return n


# -- 5.5: the first updates ---------------------------------------------------------------------------------------------


@cache
def _first_updates() -> tuple[str, Rows]:
    """Which weights have a gradient that is not zero in the first three updates by plain gradient descent."""
    g, network = torch.Generator().manual_seed(0), _small_unet()
    x_t, eps = (torch.randn(2, 1, 28, 28, generator=g) for _ in range(2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    moved: list[dict[str, int]] = []
    for _ in range(3):
        optimizer.zero_grad()
        (network(x_t, torch.tensor([300, 700])) - eps).square().mean().backward()
        counts = {name: int(p.grad.count_nonzero()) for name, p in network.named_parameters() if p.grad is not None}
        moved.append({name: count for name, count in counts.items() if count})
        optimizer.step()
    first = {name.split(".")[0] for name in moved[0]}
    letter = "b" if first == {"last"} else "c" if not first else "a" if len(moved[0]) == len(counts) else "d"
    rows = [(f"update {n}", f"{sum(found.values()):,} weights") for n, found in enumerate(moved, 1)]
    return letter, (*rows, ("of", f"{sum(p.numel() for p in network.parameters()):,}"))


EXERCISES: dict[str, Exercise] = {
    "05.1": Predict(
        {
            "a": "No layer has weights of its own for each position: a convolution is the same few numbers everywhere, and so "
            "are the linear layers of attention. The number of positions stands in one of the two formulas (5.9) only.",
            "b": "So it is for every convolution (5.9). But there is a layer here that has something to do for each pair "
            "of positions.",
            "c": "Convolutions cost four times as much (5.9). The pairs of positions in attention become sixteen times as "
            "many (5.10); as they are few at 7 × 7, this shows only a little. Double the side again, and it shows more.",
            "d": "Sixteen times as many are only the pairs of positions (5.10), and attention stands where the picture is "
            "smallest. Most of the cost is in the convolutions.",
        },
        _twice_the_side,
    ),
    "05.2": Derive(
        _error_without_skips,
        (abar, j),
        "One halving loses three quarters of the noise, as in section 5.6, two lose fifteen sixteenths. So where v is nearly "
        "all noise, a network without skips does hardly better than one that predicts 0.",
        (
            Mistake(
                (1 - abar) * (1 - sp.Rational(1, 4) ** j),
                "That is the factor of the image. In v the noise stands with √ᾱ_t before it (4.7).",
            ),
            Mistake(
                abar * (1 - sp.Rational(1, 2) ** j),
                "A square of side 2^j has 4^j pixels, and it is over all of them that the mean is taken.",
            ),
            Mistake(
                abar * sp.Rational(1, 4) ** j,
                "That much of the noise gets through. The error is what does not.",
            ),
            Mistake(
                sp.sqrt(abar) * (1 - sp.Rational(1, 4) ** j),
                "The factor of the noise enters a squared error squared.",
            ),
            Mistake(
                1 - sp.Rational(1, 4) ** j,
                "That is the error in ε. An error in ε counts √ᾱ_t as much in v, and here it is squared.",
            ),
        ),
    ),
    "05.3": Break("two different whole numbers from 1 to 1000", _two_times, _alike),
    "05.4": Build(
        "a function of a list of pairs (width, stride) that returns one whole number",
        _stacks,
        "It is (5.8), and it agrees with what the gradients of real convolutions give.",
        (
            Mistake(
                _without_strides,
                "So it would be if no layer lowered the resolution. After a layer of stride 2, one position stands for two: "
                "each later layer reaches twice as far.",
            ),
            Mistake(
                _with_its_own_stride,
                "The stride of a layer lengthens the steps of the layers after it, not its own: the product in (5.8) ends "
                "with the layer before.",
            ),
            Mistake(
                _from_the_front,
                "You walked from the first layer to the last. One position is what you have at the end, so the recursion in "
                "(5.8) begins there.",
            ),
            Mistake(
                lambda layers: math.prod(width for width, _ in layers),
                "Windows that lie side by side would multiply. These overlap: each further one adds only the stride.",
            ),
        ),
    ),
    "05.5": Predict(
        {
            "a": "A gradient comes down to a layer through the weights of all layers after it. The last ones are 0, and "
            "nothing comes through them.",
            "b": "Something goes into the last convolution, so its weights get a gradient; what it would pass on is "
            "multiplied by its weights, and these are 0. Once they are not, the gradient reaches all that lies on the "
            "open road, and after that the inside of the blocks, where the time is.",
            "c": "That the answer is 0 does not make the gradient 0: the error is there, and something goes into the last "
            "convolution. It would be stuck if two layers in a row were zero, with no way around them.",
            "d": "A weight that is 0 can have a gradient: it is what goes in, times what is asked of the output. It is the "
            "layers before it that get no gradient.",
        },
        _first_updates,
    ),
}
