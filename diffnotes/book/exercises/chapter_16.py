"""Exercises of chapter 16: transformers."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows
from diffnotes.models.dit import patches
from diffnotes.models.transformer import Block

# -- 16.1: the operations of a block ------------------------------------------------------------------------------------

N, w, r, h = sp.symbols("N w r h", positive=True)


def _operations() -> sp.Expr:
    """Four matrices of the attention and two of the MLP on N tokens; scores and mixing of h heads of width w / h."""
    return 2 * N * (4 * w**2 + 2 * w * r * w) + h * 2 * (2 * N**2 * w / h)


# -- 16.2: smaller patches ----------------------------------------------------------------------------------------------


@cache
def _smaller_patches() -> tuple[str, Rows]:
    """Operations of a block on 49 and on 196 tokens, as torch counts them, and those of its matrices alone."""
    counted = {}
    for tokens in (49, 196):
        with FlopCounterMode(display=False) as counter:
            Block(48, heads=2)(torch.zeros(1, tokens, 48))
        counted[tokens] = counter.get_flop_counts()["Global"]
    products = {n: sum(v for k, v in c.items() if "bmm" in str(k)) for n, c in counted.items()}  # tokens with tokens
    matrices = {n: sum(c.values()) - products[n] for n, c in counted.items()}
    factors = matrices[196] / matrices[49], products[196] / products[49]
    rows = (("the matrices", f"{factors[0]:g} times"), ("scores and mixing", f"{factors[1]:g} times"))
    letters = {(2, 4): "a", (4, 4): "b", (4, 16): "c", (16, 16): "d"}
    return letters[round(factors[0]), round(factors[1])], rows


# -- 16.3: patches ------------------------------------------------------------------------------------------------------

Cut = Callable[[Tensor, int], Tensor]


def _pictures(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Images in three channels that are wider than high, with patches of two sizes."""
    for p, height, width in ((2, 4, 6), (4, 8, 12), (2, 6, 4)):
        x = torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)
        yield {"x": x, "p": p}, patches(x, p)


def _cut(move: tuple[int, ...]) -> Cut:
    """Patches with the axes (B, C, H/p, p, W/p, p) moved so."""

    def cut(x: Tensor, p: int) -> Tensor:
        B, C, H, W = x.shape
        return x.reshape(B, C, H // p, p, W // p, p).permute(move).reshape(B, -1, C * p * p)

    return cut


# -- 16.4: zeros that stay ----------------------------------------------------------------------------------------------

PARTS = ("gates", "attention out", "mlp first", "mlp last")
DEAD = {frozenset({"gates", "mlp last"}), frozenset({"gates", "attention out"}), frozenset({"mlp first", "mlp last"})}


def _two_parts(answer: Any) -> tuple[str, str]:
    one, other = (str(part).strip().lower() for part in answer)
    if one == other or not {one, other} <= set(PARTS):
        raise ValueError("two of the parts")
    return one, other


@cache
def _trained(parts: frozenset[str]) -> dict[str, bool]:
    """Whether each of a block's matrices has moved after twenty steps of gradient descent from zeros in these parts."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        block, gates = Block(width=8, heads=2, adaptive=True), nn.Parameter(torch.zeros(1, 6, 8))
        x, goal = torch.randn(2, 8, 5, 8)
    of = {"attention out": block.attention.out, "mlp first": block.mlp.first, "mlp last": block.mlp.last}
    with torch.no_grad():
        if "gates" not in parts:
            gates[:, [2, 5]] = 1.0
        for name in parts - {"gates"}:
            of[name].weight.zero_()
            of[name].bias.zero_()
    before = {name: weight.detach().clone() for name, weight in block.named_parameters()}
    descent = torch.optim.SGD([*block.parameters(), gates], lr=0.1)
    for _ in range(20):
        descent.zero_grad()
        (block(x, gates.expand(8, -1, -1)) - goal).square().mean().backward()
        descent.step()
    return {
        name: bool((weight != before[name]).any())
        for name, weight in block.named_parameters()
        if name.endswith("weight")
    }


def _stuck(answer: tuple[str, str]) -> tuple[bool, str, Rows]:
    """Whether a matrix of the block never moved."""
    moved = _trained(frozenset(answer))
    still = [name for name, has in moved.items() if not has]
    rows = (("weights that never moved", ", ".join(still) or "none"),)
    if not still:
        words = (
            "After twenty steps all weights have moved. These two zeros are no factors of one product: each finds, at the latest "
            "after some steps, a gradient that is not zero (16.4). Which two are?"
        )
        return False, words, rows
    words = (
        "Two zeros in one product: the gradient of each has the other as a factor, so both stay, and with them everything that "
        "reaches the loss through them alone. One zero would have been enough for the start as the identity."
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "16.1": Derive(
        _operations,
        (N, w, r, h),
        "Matrices: 2N for each entry, of 4 w² in the attention and 2 r w² in the MLP. Scores and mixing: 2N²w each, for all "
        "heads together (16.13).",
        (
            Mistake(
                8 * N * w**2 + 4 * r * N * w**2 + 4 * h * N**2 * w,
                "The scores of one head cost 2N² w/h, for its queries have w/h entries. Over h heads that is 2N²w again.",
            ),
            Mistake(
                4 * N * w**2 + 2 * r * N * w**2 + 2 * N**2 * w,
                "You have counted a product and a sum as one. Here each counts, as in (16.13).",
            ),
            Mistake(
                8 * w**2 + 4 * r * w**2 + 4 * N**2 * w,
                "Each matrix is applied to all N tokens: the first two terms lack the factor N.",
            ),
            Mistake(
                8 * N * w**2 + 4 * r * N * w**2 + 2 * N**2 * w,
                "Scores, and then the mixing of the values with them: N²w products and as many sums, twice.",
            ),
            Mistake(
                8 * N * w**2 + 2 * r * N * w**2 + 4 * N**2 * w,
                "The MLP has two matrices, one into the wide layer and one out of it.",
            ),
        ),
    ),
    "16.2": Predict(
        {
            "a": "That would be for twice as many tokens. Half the side makes four times as many patches.",
            "b": "The matrices, yes. But scores are computed for every pair of tokens.",
            "c": "Four times as many tokens: the matrices are applied to each, the scores to each pair (16.13).",
            "d": "The scores, yes. A matrix is applied to every token once, so it costs four times as much.",
        },
        _smaller_patches,
    ),
    "16.3": Build(
        "a function of x (B, C, H, W) and p that returns the patches, (B, H W / p^2, C p^2)",
        _pictures,
        "Each axis is split in two, and the two within a patch go last, behind the channel: (B, H/p, W/p, C, p, p). A linear "
        "layer on these rows is a convolution with stride p (16.1).",
        (
            Mistake(
                _cut((0, 1, 2, 3, 4, 5)),
                "A reshape alone. Its rows are strips of the image's rows, not squares: lengths and shapes fit, and "
                "neighbours below are gone.",
            ),
            Mistake(
                _cut((0, 2, 4, 3, 5, 1)),
                "The patches are right, the order inside them is (p, p, C). Here it is (C, p, p), as in a convolution's "
                "kernels.",
            ),
            Mistake(
                _cut((0, 4, 2, 1, 3, 5)),
                "The patches come column by column. The book goes row after row.",
            ),
            Mistake(
                _cut((0, 2, 4, 1, 5, 3)),
                "Every patch is transposed: its rows and columns are exchanged.",
            ),
        ),
    ),
    "16.4": Break(
        f"two different parts, of {', '.join(PARTS)}",
        _two_parts,
        _stuck,
    ),
}
