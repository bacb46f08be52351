"""Exercises of chapter 20: diffusion for words."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.process.exact_words import LanguageDenoiser
from diffnotes.training.text import load_sums, true_sums

# -- 20.1: the weight of the cosine schedule ----------------------------------------------------------------------------

t = sp.symbols("t", positive=True)
ABAR = sp.cos(sp.pi * t / 2)


def _weight() -> sp.Expr:
    """Minus the slope over what is masked."""
    return -sp.diff(ABAR, t) / (1 - ABAR)


# -- 20.2: two portions -------------------------------------------------------------------------------------------------


@cache
def _two_portions() -> tuple[str, Rows]:
    """The share of true sums of the perfect model, in two portions of positions, counted over 400 draws."""
    sums = load_sums("all")
    perfect = LanguageDenoiser(sums.x, sums.vocab)
    g = torch.Generator().manual_seed(0)
    shares = []
    for first in ((0, 1, 2, 3, 4), (0, 2, 3, 5, 6)):
        x = torch.full((400, 9), sums.vocab)
        for block in (list(first), [i for i in range(9) if i not in first]):
            drawn = torch.multinomial(perfect(x).softmax(-1).flatten(0, 1), 1, generator=g).view(400, 9)
            x[:, block] = drawn[:, block]
        shares.append(true_sums(x).double().mean().item())
    rows = (("aa+bb first: true", f"{shares[0]:.1%}"), ("a_+b_=c__ first: true", f"{shares[1]:.1%}"))
    return ("c" if shares[0] == 1 and shares[1] < 0.1 else "b"), rows


# -- 20.3: the bound, by listing all masks ------------------------------------------------------------------------------

Nats = Callable[[Sequence[bool]], list[float]]
Bound = Callable[[Nats, int], Any]


def _tables(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Costs drawn by lot, for sentences of two to four letters, and the perfect model of four sentences."""
    for L in (2, 3, 4):
        table = torch.rand(2**L, L, generator=generator, dtype=torch.float64)
        yield {"nats": _reader(table), "L": L}, _bound()(_reader(table), L)
    four = torch.tensor([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]])
    perfect = LanguageDenoiser(four, 2)

    def nats(hidden: Sequence[bool]) -> list[float]:
        masked = torch.where(torch.tensor(list(hidden)), 2, four[1])[None]
        log_p = perfect(masked).double().log_softmax(-1)[0]
        return [-float(log_p[i, k]) for i, k in enumerate(four[1])]

    yield {"nats": nats, "L": 3}, torch.tensor(math.log(4), dtype=torch.float64)


def _reader(table: Tensor) -> Nats:
    def nats(hidden: Sequence[bool]) -> list[float]:
        return table[sum(int(h) << i for i, h in enumerate(hidden))].tolist()

    return nats


def _bound(kind: str = "right") -> Bound:
    """The right function, and with another kind a wrong one."""

    def bound(nats: Nats, L: int) -> Any:
        total, masks, sets = 0.0, 0.0, 0
        for hidden in itertools.product([False, True], repeat=L):
            n = sum(hidden)
            if n == 0:
                continue
            cost = math.fsum(v for v, h in zip(nats(hidden), hidden, strict=True) if h)
            each = 1 / math.comb(L, n)
            total += {
                "right": cost * each / n,
                "sum": cost * each,
                "sets": cost / n,
                "not hidden": math.fsum(nats(hidden)) * each / n,
                "alike": cost * L / n,
                "pooled": cost * each,
                "per letter": cost * each / n / L,
            }[kind]
            masks, sets = masks + n * each, sets + 1
        if kind == "pooled":
            total *= L / masks
        return torch.tensor(total / (sets if kind == "alike" else 1), dtype=torch.float64)

    return bound


# -- 20.4: pooled -------------------------------------------------------------------------------------------------------

PAIRS = ("00", "01", "10", "11")


def _four_probabilities(answer: Any) -> list[float]:
    p = numbers(answer, 4)
    if min(p) < 0 or abs(sum(p) - 1) > 1e-6:
        raise ValueError("the four numbers must be probabilities that sum to 1")
    return p


def _entropy(p: Sequence[float]) -> float:
    return -math.fsum(v * math.log2(v) for v in p if v > 0)


def _pooled(p: list[float]) -> tuple[bool, str, Rows]:
    """The entropy, and what the pooled loss of the perfect model reports, in bits."""
    both = _entropy(p)
    alone = [_entropy([p[0] + p[1], p[2] + p[3]]), _entropy([p[0] + p[2], p[1] + p[3]])]
    seen = (both - alone[0] + both - alone[1]) / 2  # the mean cost of one mask, the other letter seen
    report = 2 * (seen + sum(alone)) / 3  # one mask and two masks equally often: three masked letters in all
    rows = (
        ("entropy: what a pair costs", f"{both:.4f} bits"),
        ("one mask", f"{seen:.4f} bits a letter"),
        ("two masks", f"{sum(alone) / 2:.4f} bits a letter"),
        ("pooled, times L", f"{report:.4f} bits"),
    )
    if report >= 1.1 * both and report > 1e-9:
        words = (
            "The letters depend on each other, so a mask is cheaper where the other letter is seen. Pooling "
            "counts the state with two "
            "masks twice, and that is the costly one. The report is no code length, though the model is perfect."
        )
        return True, words, rows
    if both < 1e-9:
        return (
            False,
            "This distribution has one sentence only: everything costs 0, and 0 is reported. It needs some choice.",
            rows,
        )
    if abs(sum(alone) - both) < 1e-9:
        words = (
            "These two letters are independent: seeing one does not help with the other, a mask costs the same "
            "with one and with two of "
            "them, and pooling changes nothing. Let the letters depend on each other."
        )
        return False, words, rows
    return False, "The letters depend on each other, but too little for a tenth. Make one follow from the other.", rows


EXERCISES: dict[str, Exercise] = {
    "20.1": Derive(
        _weight,
        (t,),
        "The slope of the cosine, with its own minus sign, over what is masked. Near 0 it is like 2/t.",
        (
            Mistake(
                -_weight(),
                "The sign: the schedule falls, its slope is negative, and minus that is positive. With yours "
                "the loss would be "
                "negative.",
            ),
            Mistake(
                -sp.diff(ABAR, t) / ABAR,
                "You have divided by what is left instead of by what is masked: the denominator is 1 - ᾱ (20.7).",
            ),
            Mistake(
                sp.sin(sp.pi * t / 2) / (1 - ABAR),
                "The chain rule: the slope of cos(πt/2) also has the factor π/2.",
            ),
            Mistake(
                1 / t,
                "That is the weight of the straight schedule. The loss is the same for all schedules (20.8), "
                "but each has a weight of "
                "its own.",
            ),
        ),
    ),
    "20.2": Predict(
        {
            "a": "One in 200 is the share for a single call. With two it depends on the portions: the letters "
            "of aa+bb are independent, "
            "and the rest follows from them.",
            "b": "The first, yes. In a_+b_=c__ the digits of the first portion depend on each other, and so do "
            "the four units and tens "
            "that are drawn together after it.",
            "c": "aa+bb has independent letters, and = and ccc are determined by them: nothing is lost. In the "
            "other portions dependent "
            "digits are drawn at once, and only a few sums survive that.",
            "d": "The number of calls does not decide. Ask of each portion whether its letters are independent, "
            "given what is there.",
        },
        _two_portions,
    ),
    "20.3": Build(
        "a function of nats and L that returns the bound in nats, one number",
        _tables,
        "Every set of n letters has the weight 1/(n binom(L, n)) (20.8). A sentence of the perfect model costs "
        "the log of the number of "
        "sentences.",
        (
            Mistake(
                _bound("pooled"),
                "You have pooled: the costs of all sets, divided by the number of masks. The hard sets with "
                "many masks then count more. "
                "For the sums it would report 11.72 nats where 9.21 are right.",
            ),
            Mistake(
                _bound("alike"),
                "You have given every set the same weight. There are many more sets of middle size; each number "
                "n of masks has to count "
                "the same, so divide by binom(L, n).",
            ),
            Mistake(
                _bound("sum"),
                "The factor 1/n is missing: within a set the mean over its masked positions is taken (20.8).",
            ),
            Mistake(
                _bound("sets"),
                "The sum over the sets of n letters has to be their mean: divide by binom(L, n) as well.",
            ),
            Mistake(_bound("not hidden"), "Only hidden positions cost something. Leave the others out of the sum."),
            Mistake(_bound("per letter"), "That is the bound per letter. What is asked for is that of the sentence."),
        ),
    ),
    "20.4": Break(
        "four probabilities, of 00, 01, 10 and 11",
        _four_probabilities,
        _pooled,
    ),
}
