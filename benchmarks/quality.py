"""How good are the samples after so many seconds of training? Every network from scratch, on the same images, judged alike.

Peers are trained with the recipe of their own documentation, ours with ours. A network that is trained with labels in its
recipe, as ours is and the course's, is conditioned on 0 to 9 in turn. Runs more take the comparison apart: a peer's network in
our recipe, and our network without labels, with the numbers of clusters for labels, and trained by algorithm 1 as it stands.

All get the same time: that in which ours makes the last of budget.own updates. Ours is trained from several seeds.
"""

import base64
import io
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from benchmarks import networks
from benchmarks.measure import CLIP, Budget, clock, pace
from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer
from diffnotes.process.losses import simple_loss, weighted_loss
from diffnotes.training.clusters import clustered, shares
from diffnotes.training.ema import EMA
from diffnotes.training.grid import grid_image
from diffnotes.training.metrics import draw_samples, held_out, quality

DONE = tuple[float, int, nn.Module]  # seconds of training, updates, the network to sample from


@dataclass(frozen=True)
class Recipe:
    """How others train: Adam, with weight decay where it is AdamW, at a constant learning rate; a moving average if ema
    is a decay; the gradient clipped if clip is a norm; the loss weighted by alpha_bar_t if `weighted`."""

    schedule: Schedule
    batch_size: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float | None = None
    ema: float | None = None
    weighted: bool = False


def course_recipe() -> Recipe:
    """The diffusion course's DDPM on MNIST (unit 2, class-conditioned): eps, cosine, Adam 1e-3, 128 images."""
    return Recipe(Schedule.cosine(T=1000), batch_size=128, learning_rate=1e-3)


def large_recipe() -> Recipe:
    """The diffusion course's first DDPM (unit 1, introduction): eps, cosine, AdamW 4e-4, 64 images."""
    return Recipe(Schedule.cosine(T=1000), batch_size=64, learning_rate=4e-4, weight_decay=0.01)


def ddpm_pytorch_recipe() -> Recipe:
    """denoising-diffusion-pytorch: GaussianDiffusion's defaults (v, sigmoid schedule; the weight SNR / (SNR + 1), which is
    alpha_bar_t) and the README's trainer (Adam 8e-5, 32 images, average 0.995), its gradients not accumulated."""
    return Recipe(
        sigmoid_schedule(), batch_size=32, learning_rate=8e-5, betas=(0.9, 0.99), clip=1.0, ema=0.995, weighted=True
    )


def sigmoid_schedule(T: int = 1000) -> Schedule:
    """alpha_bar falls along the logistic curve between -3 and 3, beta_t <= 0.999 (Jabri et al. 2022, section 4;
    sigmoid_beta_schedule of denoising-diffusion-pytorch)."""
    curve = torch.sigmoid(6 * torch.arange(T + 1, dtype=torch.float64) / T - 3)
    alpha_bar = (curve[-1] - curve) / (curve[-1] - curve[0])
    return Schedule.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999), name="sigmoid")


def train_peer(model: nn.Module, recipe: Recipe, train: Images, marks: tuple[float, ...]) -> Iterator[DONE]:
    """Train until the last of the marks (in seconds of training), yielding at each the network to sample from."""
    kind = torch.optim.AdamW if recipe.weight_decay else torch.optim.Adam
    optimizer = kind(model.parameters(), recipe.learning_rate, recipe.betas, weight_decay=recipe.weight_decay)
    average = EMA(model, recipe.ema) if recipe.ema else None
    schedule, dice = recipe.schedule, torch.Generator().manual_seed(0)
    updates, seconds = 0, 0.0
    for mark in marks:
        if seconds >= mark and updates:  # a single update took it past this mark as well
            continue
        model.train()
        while seconds < mark:
            started = clock()
            index = torch.randint(len(train), (recipe.batch_size,), generator=dice)
            x0, y = train.x[index], None if model.num_classes is None else train.y[index]
            t = torch.randint(1, schedule.T + 1, (recipe.batch_size,), generator=dice)
            eps = torch.randn(x0.shape, generator=dice)
            if recipe.weighted:
                loss = weighted_loss(lambda s, t: s.alpha_bar[t], model, schedule, x0, t, eps, y).mean()
            else:
                loss = simple_loss(model, schedule, x0, t, eps, y).mean()
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            if average:
                average.update(model)
            updates += 1
            seconds += clock() - started
        yield seconds, updates, average.model if average else model.eval()


def trainer_like_ours(model: nn.Module, train: Images, loss: Denoising | None = None, seed: int = 0) -> Trainer:
    """A trainer with the recipe of chapter 6, for any network."""
    loss = Denoising(Schedule.cosine(T=1000), **networks.LOSS) if loss is None else loss  # type: ignore[arg-type]
    return Trainer(model, loss, train, TrainConfig(seed=seed, **networks.CONFIG))  # type: ignore[arg-type]


def train_like_ours(trainer: Trainer, updates: int) -> DONE:
    """Train for so many updates, over which the learning rate falls to 0; the average is what to sample from."""
    started = clock()
    for _ in trainer.steps(updates=updates):
        pass
    return clock() - started, trainer.update, trainer.ema.model


@dataclass(frozen=True)
class Own:
    """A run that trains as ours does: which network, with what other than usual in it, by which loss, on which labels."""

    network: str = "ours"
    other: dict[str, Any] = field(default_factory=dict)
    loss: Denoising = field(default_factory=lambda: Denoising(Schedule.cosine(T=1000), **networks.LOSS))  # type: ignore[arg-type]
    clusters: int | None = None

    def make(self, train: Images, seed: int = 0) -> Trainer:
        """The trainer, before its first update."""
        torch.manual_seed(seed)
        other = dict(self.other)
        if self.network == "ours":
            other["input_mean"] = self.loss.schedule.alpha_bar.sqrt() * train.x.mean()
        model = getattr(networks, self.network)(**other)
        return trainer_like_ours(model, train, self.loss, seed)


OWN = {
    "ours": Own(),
    "ours_no_labels": Own(other={"num_classes": None}),
    "ours_clusters": Own(other={"num_classes": 50}, clusters=50),
    "ours_eps_linear": Own(other={"target": "eps"}, loss=Denoising(Schedule.linear(T=1000), min_snr=None)),
    "course_our_recipe": Own("course_labels", {"target": "v"}),
}
SEEDED = ("ours", "ours_no_labels", "ours_clusters")  # the runs of which the spread between seeds is measured


def peers(budget: Budget) -> Iterator[tuple[str, str, Recipe, tuple[float, ...]]]:
    """Name, network, recipe and marks of the peers in the budget; where drawing takes minutes, fewer marks are looked at."""
    for name, recipe, marks in (
        ("course", course_recipe(), budget.marks),
        ("ddpm_pytorch", ddpm_pytorch_recipe(), budget.marks[-2:]),
        ("large", large_recipe(), budget.marks[-1:]),
    ):
        if name in budget.names:
            yield name, "course_labels" if name == "course" else name, recipe, marks


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """Every run, and at every mark the five measures of metrics.quality on samples from the same initial noise."""
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    step = pace(OWN["ours"].make(train).steps(updates=1000))
    unit = step * budget.own[-1]  # the time that all get
    print(f"  an update of ours takes {1000 * step:.0f} ms, so all get {unit:.0f} s", flush=True)
    curves: dict[str, list[dict[str, Any]]] = {}

    def judged(row: str, done: DONE, schedule: Schedule, y: bool | torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
        seconds, updates, trained = done
        how = {"solver": budget.solver, "steps": budget.steps, "eta": budget.eta, "labels": y, "clip": CLIP}
        started = time.perf_counter()
        samples = draw_samples(trained, schedule, budget.samples, guidance=scale, **how)
        drawn = time.perf_counter() - started
        point = {"seconds": seconds, "updates": updates, "sampling_seconds": drawn, **_judge(samples, real)}
        print(
            f"  {row}: {updates} updates, {seconds:.0f} s, Fréchet distance {point['frechet']['value']:.2f}", flush=True
        )
        return point

    for name, own in OWN.items():
        if name == "course_our_recipe" and "course" not in budget.names:
            continue
        images = clustered(train, own.clusters) if own.clusters else train
        if name == "ours":
            updates = list(budget.own)
        elif own.network == "ours":
            updates = [budget.own[-1]]  # its update costs what ours does
        else:
            updates = [max(1, round(unit / pace(own.make(images).steps(updates=1000))))]
        for number in updates:
            several: dict[str, list[dict[str, Any]]] = {}
            for seed in range(budget.seeds if name in SEEDED else 1):
                done = train_like_ours(own.make(images, seed), number)
                y = _labels(done[2], images, budget.samples) if own.clusters else done[2].num_classes is not None
                # a training that hid some of the labels, as ours does, allows guidance
                ways = (
                    {name: 1.0, f"{name}_guided": budget.guidance} if name in ("ours", "ours_clusters") else {name: 1.0}
                )
                for row, scale in ways.items():
                    several.setdefault(row, []).append(judged(row, done, own.loss.schedule, y, scale))
            for row, points in several.items():
                _append(curves, row, _over_seeds(points))
    for name, network, recipe, marks in peers(budget):
        torch.manual_seed(0)
        model = getattr(networks, network)()
        labels = model.num_classes is not None
        for done in train_peer(model, recipe, train, tuple(unit * mark for mark in marks)):
            _append(curves, name, judged(name, done, recipe.schedule, labels))
    for row, points in curves.items():
        for point in points:  # of our network all updates cost the same
            point["in_our_updates"] = point["updates"] if row.startswith("ours") else point["seconds"] / step
    return {
        "samples": budget.samples,
        "solver": budget.solver,
        "steps": budget.steps,
        "eta": budget.eta,
        "guidance": budget.guidance,
        "clip": CLIP,
        "own": budget.own,
        "seeds": budget.seeds,
        "seconds": unit,
        "threads": torch.get_num_threads(),
        "real": len(real),
        "images": train.name,
        "own_recipe": _own_recipe(),
        "bfloat16": OWN["ours"].make(train).uses_bfloat16,
        "perfect": _judge(perfect[: budget.samples], real),
        "curves": {row: curves[row] for row in ORDER if row in curves},
    }


ORDER = (
    "ours", "ours_guided", "course", "ddpm_pytorch", "large", "course_our_recipe",
    "ours_no_labels", "ours_clusters", "ours_clusters_guided", "ours_eps_linear",
)  # fmt: skip


def _labels(model: nn.Module, images: Images, number: int) -> torch.Tensor:
    """Labels drawn as often as the images have them."""
    return torch.multinomial(shares(images), number, replacement=True, generator=torch.Generator().manual_seed(0))


def _append(curves: dict[str, list[dict[str, Any]]], row: str, point: dict[str, Any]) -> None:
    for earlier in curves.setdefault(row, []):
        earlier.pop("grid", None)  # the pictures at the end will do
    curves[row].append(point)


def _over_seeds(points: list[dict[str, Any]]) -> dict[str, Any]:
    """The first of these runs, with the mean of each measure over all of them, its standard error from how far the runs lie
    apart, and the single values; a single run is left as it is."""
    first = dict(points[0])
    if len(points) > 1:
        for key in ("frechet", "recognised", "entropy", "precision", "recall"):
            values = [point[key]["value"] for point in points]
            error = statistics.stdev(values) / len(values) ** 0.5
            first[key] = {"value": statistics.mean(values), "error": error, "runs": values}
        first["seconds"] = statistics.median(point["seconds"] for point in points)
    return first


def _own_recipe() -> dict[str, Any]:
    """The settings of chapter 6's training and of its loss."""
    loss = OWN["ours"].loss
    return asdict(TrainConfig(seed=0, **networks.CONFIG)) | {  # type: ignore[arg-type]
        name: getattr(loss, name) for name in ("min_snr", "even_times", "label_dropout", "logit_normal")
    }


def _judge(samples: torch.Tensor, real: torch.Tensor) -> dict[str, Any]:
    """The measures, and the first 64 images as a PNG."""
    buffer = io.BytesIO()
    grid_image(samples[:64], columns=8, scale=1, gap=1).save(buffer, "png", optimize=True)
    return {**asdict(quality(samples, real)), "grid": base64.b64encode(buffer.getvalue()).decode()}
