"""A GAN in the plane (chapter 21): eight blobs, a generator's points, and the discriminator's logit between them."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor, nn

from diffnotes.book.explorers.controls import LOOK, check_range, dropdown, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof.plane import Ring
from diffnotes.training.adversarial_losses import LOSSES, discriminator_loss, generator_loss, gradient_penalty

RING = Ring(number=8, radius=2.0, sd=0.02)
NEAR, COUNTS = 0.2, 0.01  # a blob is found if this share of the points lies so near to it
DIM, WIDTH, BATCH = 4, 64, 128
RATE, BETAS = 4e-3, (0.5, 0.9)
FRAMES, EVERY = 80, 10  # what the slider shows, and updates between two frames
SHOWN, SIDE, EDGE = 256, 40, 3.0
RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


class Game:
    """Two small networks that play for a ring of eight blobs: `step()` is one update of each, `draw` gives the generator's
    points, `logit` the discriminator's answer.

    loss: as in GanConfig; ratio: the discriminator's learning rate over the generator's, which is 0.004; r1: gamma of the
    gradient penalty (book, eq. 21.8), here in every update."""

    def __init__(self, loss: str = "non-saturating", ratio: float = 1.0, r1: float = 0.0, seed: int = 0) -> None:
        self.loss, self.r1 = loss, r1
        self.dice, self.noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.G = nn.Sequential(
                nn.Linear(DIM, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)
            )
            self.D = nn.Sequential(
                nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)
            )
        self.of_g = torch.optim.Adam(self.G.parameters(), RATE, BETAS)
        self.of_d = torch.optim.Adam(self.D.parameters(), RATE * ratio, BETAS)

    def step(self) -> None:
        """The discriminator's turn, then the generator's."""
        x = torch.from_numpy(RING.draw(BATCH, self.dice)).float()
        fake = self.G(torch.randn(BATCH, DIM, generator=self.noise))
        loss_d = discriminator_loss(self.loss, self.logit(x), self.logit(fake.detach()))
        if self.r1:
            loss_d = loss_d + self.r1 / 2 * gradient_penalty(self.logit, x).mean()
        self.of_d.zero_grad()
        loss_d.backward()
        self.of_d.step()
        loss_g = generator_loss(self.loss, self.logit(fake))
        self.of_g.zero_grad()
        loss_g.backward()
        self.of_g.step()

    def logit(self, x: Tensor) -> Tensor:
        """The discriminator's logits of points x (B, 2), (B,)."""
        return self.D(x)[:, 0]

    @torch.no_grad()
    def draw(self, number: int, seed: int = 1) -> np.ndarray:
        """So many points of the generator, (number, 2), always from the same noise."""
        return self.G(torch.randn(number, DIM, generator=torch.Generator().manual_seed(seed))).numpy()


def found(points: np.ndarray) -> int:
    """The number of blobs near which more than one point in a hundred lies."""
    distance = np.linalg.norm(points[:, None] - RING.centres, axis=2)
    return int(((distance < NEAR).mean(0) > COUNTS).sum())


def on_blobs(points: np.ndarray) -> float:
    """The share of the points that lie near a blob."""
    return float((np.linalg.norm(points[:, None] - RING.centres, axis=2).min(1) < NEAR).mean())


class Film:
    """The frames of one game, played as far as they are asked for."""

    def __init__(self, loss: str, ratio: float, r1: float) -> None:
        self.game = Game(loss, ratio, r1)
        side = np.linspace(-EDGE, EDGE, SIDE)
        self.grid = torch.tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), dtype=torch.float32)
        self.frames: list[tuple[np.ndarray, np.ndarray, int, float]] = []

    def __getitem__(self, frame: int) -> tuple[np.ndarray, np.ndarray, int, float]:
        """Points (SHOWN, 2), logits on the grid (SIDE, SIDE), modes found, and the share of points at one."""
        while len(self.frames) <= frame:
            if self.frames:
                for _ in range(EVERY):
                    self.game.step()
            many = self.game.draw(1000)
            with torch.no_grad():
                field = self.game.logit(self.grid).reshape(SIDE, SIDE).numpy()
            self.frames.append((many[:SHOWN], field, found(many), on_blobs(many)))
        return self.frames[frame]


@lru_cache(maxsize=32)
def film(loss: str, ratio: float, r1: float) -> Film:
    """The frames of the game with these settings, kept for as long as there is room."""
    return Film(loss, ratio, r1)


def game(frame: int = 35, ratio: float = 1.0, gamma: float = 0.0, loss: str = "non-saturating") -> None:
    """A GAN in the plane, as it learns: the data (eight blobs on a ring), the generator's points, the discriminator's logit as
    colour, and how many of the eight modes were found over the updates. A play button runs through the frames.

    frame: a slider, ten updates each, 0..80; ratio: a slider for the discriminator's learning rate over the generator's, 0.1 to
    4; gamma: a slider for the gradient penalty (book, eq. 21.8), 0..2; loss: "non-saturating", "saturating" or "hinge"."""
    build_game(frame, ratio, gamma, loss).show()


def build_game(frame: int = 35, ratio: float = 1.0, gamma: float = 0.0, loss: str = "non-saturating") -> Explorer:
    """The explorer of `game`, not yet shown."""
    check_range({"frame": (frame, 0, FRAMES), "ratio": (ratio, 0.1, 4), "gamma": (gamma, 0, 2)})
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(map(repr, LOSSES))}, got {loss!r}")
    figure, (plane, curve) = plots.subplots(1, 2, size=(8.4, 3.9), width_ratios=[1.25, 1])
    plane.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", title="logit: blue real, yellow drawn")
    plane.grid(False)
    field = plane.imshow(
        np.zeros((SIDE, SIDE)), extent=(-EDGE, EDGE, -EDGE, EDGE), origin="lower", cmap=_colours(), vmin=-1, vmax=1
    )
    data = RING.draw(400, np.random.default_rng(5))
    (real,) = plane.plot(*data.T, ls="", marker="o", ms=3, color=plots.BLUE)
    (drawn,) = plane.plot([], [], ls="", marker="o", ms=3, mec="white", mew=0.3, color=plots.RED)
    curve.set(xlim=(0, FRAMES * EVERY), ylim=(-0.3, 8.3), xlabel="update", title="modes found, of eight")
    (line,) = curve.plot([], [], color=plots.GREEN)
    (now,) = curve.plot([], [], ls="", marker="o", color=plots.GREEN)
    plot = LivePlot(figure, [field, real, drawn, line, now])
    slider = int_slider("update", frame * EVERY, 0, FRAMES * EVERY, EVERY)
    controls: dict[str, widgets.Widget] = {
        "update": slider,
        "ratio": widgets.SelectionSlider(options=RATIOS, value=nearest(ratio), description="D / G", **LOOK),
        "gamma": float_slider("γ", gamma, 0, 2, 0.1, form=".1f"),
        "loss": dropdown("loss", LOSSES, value=loss),
    }
    play = widgets.Play(
        value=slider.value, min=0, max=FRAMES * EVERY, step=EVERY, interval=150, layout={"width": "240px"}
    )
    widgets.link((play, "value"), (slider, "value"))

    def update(update: int, ratio: float, gamma: float, loss: str) -> str:
        frames = film(loss, ratio, round(gamma, 1))
        frame = update // EVERY
        points, logits, number, share = frames[frame]
        field.set_data(logits)
        drawn.set_data(*points.T)
        line.set_data(np.arange(frame + 1) * EVERY, [frames[i][2] for i in range(frame + 1)])
        now.set_data([update], [number])
        return (
            f"Update {update}: {number} of 8 modes found, {share:.0%} of the points at a mode. The discriminator's learning rate "
            f"is {ratio:g} times the generator's, γ = {gamma:.1f}."
        )

    points, _, number, _ = film(loss, nearest(ratio), round(gamma, 1))[frame]
    alt = (
        f"Left: a plane with eight small blue blobs on a ring and {len(points)} orange points of the generator; the colour "
        f"behind is the discriminator's logit. Right: a curve of how many modes were found; after "
        f"{frame * EVERY} updates {number}."
    )
    return Explorer("Generator and discriminator in the plane", controls, plot, update, alt, extra=[play])


def nearest(ratio: float) -> float:
    """The ratio of RATIOS that is nearest on a logarithmic scale: few enough to be kept."""
    return min(RATIOS, key=lambda r: abs(np.log(r / ratio)))


def _colours() -> object:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("logit", ["#f3cf7c", "#ffffff", "#9fcfef"])
