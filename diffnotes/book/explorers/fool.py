"""Sample sets that fool a measure (chapter 21): what each of six sets scores, and the Fréchet distance over 1/n."""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from diffnotes.book.explorers.controls import LOOK, dropdown
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.training.grid import grid_image
from diffnotes.training.images import Images
from diffnotes.training.metrics import (
    Extrapolated,
    features_and_probabilities,
    frechet_infinity,
    in_manifold,
    inception_score,
    label_entropy,
    recognised,
)

MOST, PARTS = 2000, (4, 2, 1)
REAL = 2000  # to measure against
SETS = {
    "real": "real digits",
    "blurred": "blurred",
    "one a class": "one picture a class",
    "0 to 4": "only 0 to 4",
    "fifty": "fifty pictures, copied",
    "noise": "noise of 0.3 added",
}


@dataclass(frozen=True)
class Scores:
    """What one sample set scores against the real images."""

    inception: float
    recognised: float
    entropy: float
    precision: float
    recall: float
    frechet: Extrapolated


class Judged:
    """The six sample sets made of real digits, and what the first n pictures of each score; each is computed once."""

    def __init__(self, train: Images, test: Images) -> None:
        for name, images in (("train", train), ("test", test)):
            if not isinstance(images, Images) or images.item_shape != (1, 28, 28) or len(images) < 200:
                raise ValueError(
                    f"{name} must be Images of 28 x 28 grey pixels, 200 or more of them, got {images!r:.80}"
                )
        self.number = min(MOST, len(train) // 2)
        dice = torch.Generator().manual_seed(0)
        order = torch.randperm(len(train), generator=dice)[: 2 * self.number]
        self.x, self.y = train.x[order], train.y[order]
        self.real = features_and_probabilities(test.x[:REAL])[0]
        self._seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._scores: dict[tuple[str, int], Scores] = {}

    def pictures(self, name: str) -> Tensor:
        """The sample set of this name, (number, 1, 28, 28), in [-1, 1]."""
        x, n, dice = self.x[: self.number], self.number, torch.Generator().manual_seed(1)
        if name == "blurred":
            return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=-1.0), 3, stride=1)
        if name == "one a class":
            said = torch.from_numpy(features_and_probabilities(self.x)[1])
            classes = [int(k) for k in self.y.unique()]
            surest = [int(torch.where(self.y == k, said[:, k], 0.0).argmax()) for k in classes]
            return self.x[surest][torch.arange(n) % len(surest)]
        if name == "0 to 4":
            low = self.x[self.y < 5]
            return low[torch.arange(n) % len(low)]
        if name == "fifty":
            return x[torch.randint(50, (n,), generator=dice)]
        if name == "noise":
            return (x + 0.3 * torch.randn(x.shape, generator=dice)).clamp(-1, 1)
        return x

    def scores(self, name: str, n: int) -> Scores:
        """What the first n pictures score."""
        if (name, n) not in self._scores:
            if name not in self._seen:
                self._seen[name] = features_and_probabilities(self.pictures(name))
            features, said = (values[:n] for values in self._seen[name])
            self._scores[name, n] = Scores(
                inception=inception_score(said),
                recognised=float(recognised(said).mean()),
                entropy=label_entropy(said),
                precision=float(in_manifold(features, self.real).mean()),
                recall=float(in_manifold(self.real, features).mean()),
                frechet=frechet_infinity(features, self.real, PARTS),
            )
        return self._scores[name, n]


def fool(train: Images, test: Images, which: str = "one a class") -> None:
    """Six sample sets that no model drew, made of training images: pictures of each, its scores against test images, and by how
    much its Fréchet distance from parts of n pictures is above the one extrapolated to n = infinity (book, eq. 21.12).

    which: a menu, "real", "blurred", "one a class", "0 to 4", "fifty" or "noise"; and a slider for the number of pictures."""
    build_fool(train, test, which).show()


def build_fool(train: Images, test: Images, which: str = "one a class") -> Explorer:
    """The explorer of `fool`, not yet shown."""
    if which not in SETS:
        raise ValueError(f"which must be one of {', '.join(map(repr, SETS))}, got {which!r}")
    judged = Judged(train, test)
    numbers = [judged.number // part for part in PARTS]
    figure, (left, right) = plots.subplots(1, 2, size=(8.6, 2.9), width_ratios=[1.9, 1])
    sheet = left.imshow(np.zeros((58, 298)), extent=(0, 298, 58, 0), cmap="gray", vmin=0, vmax=255)
    left.set(xlim=(0, 298), ylim=(58, 0), xticks=[], yticks=[], title="the first twenty")
    left.grid(False)
    left.spines[:].set_visible(False)
    across = np.array([0, 1.1 * PARTS[0]])  # in units of 1/N
    right.set(xlim=across, ylim=(-0.2, 2), xlabel="pictures n, spaced as 1/n")
    right.set_title("Fréchet distance of n pictures\nminus its extrapolation to n = ∞")
    right.set_xticks(PARTS, ["N" if part == 1 else f"N/{part}" for part in PARTS])
    (line,) = right.plot([], [], color=plots.SKY)
    (points,) = right.plot([], [], ls="", marker="o", color=plots.BLUE)
    plot = LivePlot(figure, [sheet, line, points])
    controls: dict[str, widgets.Widget] = {
        "which": dropdown("set", [(words, name) for name, words in SETS.items()], value=which),
        "number": widgets.SelectionSlider(options=numbers, value=numbers[-1], description="N", **LOOK),
    }

    def update(which: str, number: int) -> str:
        s = judged.scores(which, number)
        sheet.set_data(np.asarray(grid_image(judged.pictures(which)[:20], 10, scale=1)))
        n, distance = (np.array(column) for column in zip(*s.frechet.table, strict=True))
        points.set_data(number / n, distance - s.frechet.value)
        line.set_data(across, s.frechet.slope / number * across)
        return (
            f"{SETS[which].capitalize()}, N = {number:,}: Inception Score (of this classifier) <b>{s.inception:.2f}</b>, "
            f"recognised {s.recognised:.3f}, entropy of the labels {s.entropy:.2f}, precision {s.precision:.2f}, recall "
            f"<b>{s.recall:.2f}</b>, Fréchet distance {distance[-1]:.2f}, extrapolated {s.frechet.value:.2f} ± "
            f"{s.frechet.error:.2f}."
        )

    first = judged.scores(which, numbers[-1])
    alt = (
        f"Left: twenty pictures of the set: {SETS[which]}. Right: by how much its Fréchet distance from n pictures is "
        f"too large, against 1/n, three points and a line that rises with 1/n; extrapolated it is {first.frechet.value:.2f}."
    )
    return Explorer("Sample sets that fool a measure", controls, plot, update, alt)
