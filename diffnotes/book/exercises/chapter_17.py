"""Exercises of chapter 17: codes."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.training.data import load_images

# -- 17.1: the variance of the encoder's mean ---------------------------------------------------------------------------

lam, theta = sp.symbols("lambda theta", positive=True)


def _variance_of_means() -> sp.Expr:
    """v^2 lambda, with v = w / (w^2 + theta) and w^2 = lambda - theta."""
    w_squared = lam - theta
    return w_squared / (w_squared + theta) ** 2 * lam


# -- 17.2: more codes ---------------------------------------------------------------------------------------------------


@cache
def _more_codes() -> tuple[str, Rows]:
    """k-means with 16 and 64 codes on the 4 x 4 patches of the digits that come with scikit-learn."""
    from sklearn.cluster import KMeans

    x = load_images("digits", "train", size=28).x[:400, 0].numpy()
    patches = x.reshape(-1, 7, 4, 7, 4).swapaxes(2, 3).reshape(-1, 16)
    found = []
    for codes in (16, 64):
        fit = KMeans(codes, n_init=1, random_state=0, max_iter=30).fit(patches)
        share = np.bincount(fit.labels_, minlength=codes) / len(patches)
        entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
        found.append((fit.inertia_ / patches.size, entropy))
    (error, entropy), (error_more, entropy_more) = found
    rows = (
        ("squared error of a pixel, K = 16 and 64", f"{error:.4f}, {error_more:.4f}"),
        ("entropy of a token in nats", f"{entropy:.2f}, {entropy_more:.2f}"),
    )
    letters = {(True, True): "a", (True, False): "b", (False, False): "c"}
    return letters.get((error_more < error, entropy_more < entropy), "d"), rows


# -- 17.3: the mask of a masked convolution -----------------------------------------------------------------------------


def _mask(size: int, kind: str) -> Tensor:
    """Ones on the rows above, and in the own row up to the position: without it for A, with it for B."""
    mask = torch.zeros(size, size)
    mask[: size // 2] = 1
    mask[size // 2, : size // 2 + (kind == "B")] = 1
    return mask


def _masks(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Tensor]]:
    for size in (3, 5, 7):
        for kind in "AB":
            yield {"size": size, "kind": kind}, _mask(size, kind)


def _own_row_only(size: int, kind: str) -> Tensor:
    mask = torch.ones(size, size)
    mask[size // 2, size // 2 + (kind == "B") :] = 0
    return mask


def _own_row_hidden(size: int, kind: str) -> Tensor:
    mask = _mask(size, kind)
    mask[size // 2, : size // 2] = 0
    return mask


def _other(kind: str) -> str:
    return "B" if kind == "A" else "A"


MASKS: tuple[tuple[Callable[[int, str], Tensor], str], ...] = (
    (
        _own_row_only,
        "Yours hides the rest of the own row, and shows the rows below. Those are the future as well: the network would read "
        "tokens that are not drawn yet (17.12).",
    ),
    (
        lambda size, kind: _mask(size, kind).flip(0, 1),
        "That is the mask for a kernel that is flipped, as a convolution of the textbooks has it. torch does not flip: "
        "yours sees "
        "exactly the future.",
    ),
    (
        lambda size, kind: _mask(size, _other(kind)),
        "A and B are exchanged: A, for the first layer, hides the position itself, and B shows it.",
    ),
    (
        lambda size, kind: _mask(size, kind).T,
        "Yours reads column after column. The tokens come row after row.",
    ),
    (
        _own_row_hidden,
        "The rows above are right. In the own row, what is left of the position has come before it as well.",
    ),
)

# -- 17.4: k-means stops ------------------------------------------------------------------------------------------------

Start = tuple[list[float], list[float]]
NUMBERS, CODES = 4, 2


def _numbers_and_codes(answer: Any) -> Start:
    points, codes = answer
    points, codes = numbers(points, NUMBERS), numbers(codes, CODES)
    if len({*codes}) < CODES:
        raise ValueError("the codes must differ")
    return points, codes


def _cost(points: np.ndarray, first: np.ndarray) -> float:
    """Summed squared distance from the means of the two parts."""
    return float(sum(((part - part.mean()) ** 2).sum() for part in (points[first], points[~first]) if len(part)))


def _stopped(answer: Start) -> tuple[bool, str, Rows]:
    """Run k-means until nothing moves, and compare with every way to part the numbers."""
    points, codes = np.array(answer[0]), np.array(answer[1])
    for _ in range(100):
        first = np.abs(points - codes[0]) <= np.abs(points - codes[1])
        moved = np.array([points[part].mean() if part.any() else codes[k] for k, part in enumerate((first, ~first))])
        if np.array_equal(moved, codes):
            break
        codes = moved
    ends = float(((points - codes[np.where(first, 0, 1)]) ** 2).sum())
    parts = [np.isin(np.arange(NUMBERS), c) for n in range(NUMBERS + 1) for c in combinations(range(NUMBERS), n)]
    best = min(_cost(points, part) for part in parts)
    rows = (
        ("k-means ends at the codes", ", ".join(f"{c:.4g}" for c in codes)),
        ("its summed squared distance", f"{ends:.4g}"),
        ("the smallest there is", f"{best:.4g}"),
    )
    if ends <= best * (1 + 1e-9) + 1e-12:
        words = (
            "From there it finds the best codebook. It gets stuck where each mean is nearer to its own numbers than to "
            "the others, "
            "though another cut would be better: try one number apart and three near each other, with the cut in a wrong place."
        )
        return False, words, rows
    words = (
        "No half-step raises the distance (17.5), and that is all it promises: k-means stops in a local minimum that "
        "depends on the "
        "start. Hence the restarts, and the several starts of every library."
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "17.1": Derive(
        _variance_of_means,
        (lam, theta),
        "w² + θ is λ, so v² λ = (λ - θ)/λ, and with s² = θ/λ the codes of all images together have variance 1, as the prior has.",
        (
            Mistake(
                theta / lam,
                "That is s², the variance of q for one image. Asked is how much its mean v x varies from image to image.",
            ),
            Mistake(sp.Integer(1), "That is the variance of all codes together: the means' and s² added up."),
            Mistake(lam - theta, "That is w², of the decoder. The encoder's v is w/(w² + θ)."),
            Mistake((lam - theta) / lam**2, "That is v². The variance of v x is v² times that of x, which is λ."),
            Mistake(sp.sqrt(lam - theta) / lam, "That is v itself."),
        ),
    ),
    "17.2": Predict(
        {
            "a": "The error falls. But a token that is one of more says more: its entropy rises, and with it the nats "
            "that a prior "
            "has to pay for it.",
            "b": "More codes cut finer: less error, and more to say with each token. So nats per token of two codebooks "
            "cannot be "
            "compared; only rate plus distortion can (17.14).",
            "c": "The entropy rises, yes. The error cannot: with four times the codes every patch has one that is nearer.",
            "d": "Background makes the entropy small, but the other patches are told apart more finely than before: it rises.",
        },
        _more_codes,
    ),
    "17.3": Build(
        "a function of size and kind that returns the mask, a tensor (size, size) of ones and zeros",
        _masks,
        "All rows above, and the own row up to the position; A without it, for the first layer, B with it (17.12).",
        tuple(Mistake(wrong, means) for wrong, means in MASKS),
    ),
    "17.4": Break(
        f"a pair of lists: {NUMBERS} numbers, and {CODES} different starting codes",
        _numbers_and_codes,
        _stopped,
    ),
}
