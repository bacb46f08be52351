"""Exercises of chapter 19: words and pictures."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers

# -- 19.1: the loss of two pairs ------------------------------------------------------------------------------------------

a, b = sp.symbols("a b", real=True)
tau = sp.Symbol("tau", positive=True)


def _two_pairs() -> sp.Expr:
    """All four cross-entropies, by the formula, and their mean."""
    s = sp.Matrix([[a, b], [b, a]]) / tau
    rows = [-sp.log(sp.exp(s[i, i]) / sum(sp.exp(s[i, j]) for j in range(2))) for i in range(2)]
    columns = [-sp.log(sp.exp(s[j, j]) / sum(sp.exp(s[i, j]) for i in range(2))) for j in range(2)]
    return (sum(rows) + sum(columns)) / 4


# -- 19.2: captions that repeat -------------------------------------------------------------------------------------------


@cache
def _least_loss() -> tuple[str, Rows]:
    """The least loss of 128 pictures with a digit word each, by the bound and by a critic that is nearly perfect."""
    g = torch.Generator().manual_seed(0)
    bounds, losses, right = [], [], []
    for _ in range(100):
        y = torch.randint(10, (128,), generator=g)
        same = y[:, None] == y
        bounds.append(same.sum(1).double().log().mean().item())
        s = 100.0 * same.double()
        losses.append(-(s.log_softmax(1) + s.log_softmax(0)).diag().mean().item() / 2)
        right.append((y[s.argmax(1)] == y).double().mean().item())
    bound, loss = sum(bounds) / 100, sum(losses) / 100
    rows = (
        ("mean of log n_i, 100 batches", f"{bound:.3f} nats"),
        ("loss of a critic with s = 100 where the digit fits, else 0", f"{loss:.3f} nats"),
        ("its digits", f"{sum(right) / 100:.0%} right"),
    )
    return ("b" if abs(loss - bound) < 1e-6 and 2.4 < loss < 2.8 else "a"), rows


# -- 19.3: the slant ------------------------------------------------------------------------------------------------------

Meter = Callable[[Tensor], Tensor]


def _slant(*, sign: int = -1, below: str = "rows", weighted: bool = True, centred: bool = True) -> Meter:
    """The right function, and with one of its settings changed a wrong one."""

    def slant(ink: Tensor) -> Tensor:
        r = torch.arange(ink.shape[1], dtype=ink.dtype)[:, None]
        c = torch.arange(ink.shape[2], dtype=ink.dtype)
        weight = ink if weighted else (ink > 0).to(ink.dtype)
        total = weight.sum((1, 2), keepdim=True)
        from_r = r - (weight * r).sum((1, 2), keepdim=True) / total * centred
        from_c = c - (weight * c).sum((1, 2), keepdim=True) / total * centred
        divisor = from_r**2 if below == "rows" else from_c**2
        return sign * (weight * from_c * from_r).sum((1, 2)) / (weight * divisor).sum((1, 2))

    return slant


def _inks(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Pictures of other heights than widths, with paper in them."""
    for shape in ((3, 6, 9), (2, 8, 5), (4, 7, 7)):
        ink = (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.3).clamp(min=0)
        yield {"ink": ink}, _slant()(ink)


# -- 19.4: selecting by a score -------------------------------------------------------------------------------------------

Lists = tuple[list[float], list[float]]


def _qualities_and_errors(answer: Any) -> Lists:
    qualities, errors = (numbers(part, 3) for part in answer)
    if abs(sum(errors)) > 1e-9 * (1 + max(map(abs, errors))):
        raise ValueError("the errors must add up to 0")
    if len({*qualities}) < 3:
        raise ValueError("the qualities must differ")
    return qualities, errors


def _selected(answer: Lists) -> tuple[bool, str, Rows]:
    """Which candidate the score selects, and whether it is the worst."""
    qualities, errors = answer
    scores = [q + e for q, e in zip(qualities, errors, strict=True)]
    best = max(scores)
    rows: Rows = tuple(
        (f"candidate {i + 1}", f"quality {q:g}, score {s:g}")
        for i, (q, s) in enumerate(zip(qualities, scores, strict=True))
    )
    if scores.count(best) > 1:
        return False, "Two candidates share the highest score: the selection is not decided.", rows
    chosen = scores.index(best)
    if qualities[chosen] != min(qualities):
        words = "The score selects candidate {}, which is not the worst one. Give the worst one a large positive error."
        return False, words.format(chosen + 1), rows
    words = (
        "The errors add up to 0, so on average the score is right, and it still selects the worst: a maximum picks out the error "
        "with the quality (19.12). Of the gain in score only the share ρ is a gain in quality."
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "19.1": Derive(
        _two_pairs,
        (a, b, tau),
        "Rows and columns alike: log(1 + e^((b - a)/τ)). At a = 1, b = -1 it is the bound (19.7) for N = 2.",
        (
            Mistake(
                sp.log(1 + sp.exp((a - b) / tau)),
                "The sign: the right pair is a, and the loss must fall when a grows. The softmax of the right one is "
                "1/(1 + e^((b - a)/τ)).",
            ),
            Mistake(
                sp.log(1 + sp.exp((b - a) * tau)),
                "The temperature divides the scalar products (19.3): a small τ makes the softmax sharp.",
            ),
            Mistake(
                2 * sp.log(1 + sp.exp((b - a) / tau)),
                "Rows and columns are averaged, not added: the ½ in front of (19.3).",
            ),
            Mistake(
                sp.log(sp.exp(a / tau) + sp.exp(b / tau)),
                "That is the normaliser alone. The right score a/τ has to be subtracted.",
            ),
        ),
    ),
    "19.2": Predict(
        {
            "a": "In row i all captions that read alike have the same score, so the right one gets at most 1/n_i of the softmax. "
            "With 128 pairs and ten words n_i is about 13.7 (19.6).",
            "b": "The mean of log n_i: equal captions share the softmax, and nothing can part them (19.6). The digit is right "
            "every time all the same.",
            "c": "That is chance, ln N: nothing learned at all. The critic does separate the ten digits.",
            "d": "ln 10 is the information that the digit word carries, and what can be gained: 4.85 less about 2.3, and "
            "what is left is the loss.",
        },
        _least_loss,
    ),
    "19.3": Build(
        "a function of ink (B, H, W) that returns the slants (B,)",
        _inks,
        "-μ11/μ02, with ink as the weights. A shear moves it by the shear (19.1).",
        (
            Mistake(
                _slant(sign=1),
                "The sign: rows count downwards, so a stroke that leans right has a negative μ11, and the slant is minus the "
                "quotient (19.1).",
            ),
            Mistake(
                _slant(below="columns"),
                "You have divided by μ20, the spread of the columns. That is the slope of rows on columns; a shear then moves it "
                "by something that depends on the picture. Divide by μ02, the spread of the rows.",
            ),
            Mistake(_slant(weighted=False), "The ink is the weight: a faint pixel counts less than a black one."),
            Mistake(
                _slant(centred=False),
                "Take the means off first: moments about the corner of the picture change when the digit is moved.",
            ),
        ),
    ),
    "19.4": Break(
        "a pair of lists of 3 numbers each: qualities, all different, and errors that add up to 0",
        _qualities_and_errors,
        _selected,
    ),
}
