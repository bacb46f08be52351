"""How good are the samples after so many seconds of training? Every network from scratch, on the same images, judged alike.

Peers are trained with the recipe of their own documentation, ours with ours. A network that is trained with labels in its
recipe, as ours is and the course's, is conditioned on 0 to 9 in turn. Three runs more take the comparison apart: a peer's
network in our recipe, our network without labels, and our network with the derivation's loss and schedule.
"""

import base64
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from benchmarks import networks
from benchmarks.measure import CLIP, Budget
from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer
from diffnotes.process.losses import simple_loss, weighted_loss
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
            started = time.perf_counter()
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
            seconds += time.perf_counter() - started
        yield seconds, updates, average.model if average else model.eval()


def train_like_ours(model: nn.Module, schedule: Schedule, train: Images, seconds: float) -> Iterator[DONE]:
    """Train with diffnotes.Trainer for so many seconds, over which the learning rate falls to 0; yield the average."""
    trainer = Trainer(model, schedule, train, TrainConfig(seed=0))
    for _ in trainer.steps(seconds=seconds):
        pass
    yield trainer.seconds, trainer.update, trainer.ema.model


Run = tuple[str, str, Schedule, Callable[[nn.Module], Iterator[DONE]]]  # name, network, schedule, training


def runs(budget: Budget, train: Images) -> Iterator[Run]:
    """All runs of the comparison whose networks are in the budget."""
    cosine, last = Schedule.cosine(T=1000), (budget.marks[-1],)

    def like_ours(seconds: float, schedule: Schedule = cosine) -> Callable[[nn.Module], Iterator[DONE]]:
        return lambda model: train_like_ours(model, schedule, train, seconds)

    def like_them(recipe: Recipe, marks: tuple[float, ...]) -> Callable[[nn.Module], Iterator[DONE]]:
        return lambda model: train_peer(model, recipe, train, marks)

    for seconds in budget.own:
        yield "ours", "ours", cosine, like_ours(seconds)
    # where drawing the samples takes minutes, fewer marks are looked at
    for name, recipe, marks in (
        ("course", course_recipe(), budget.marks),
        ("ddpm_pytorch", ddpm_pytorch_recipe(), budget.marks[-3:]),
        ("large", large_recipe(), last),
    ):
        if name in budget.names:
            yield name, "course_labels" if name == "course" else name, recipe.schedule, like_them(recipe, marks)
    if "course" in budget.names:
        yield "course_our_recipe", "course_labels", cosine, like_ours(budget.seconds)
    yield "ours_no_labels", "ours", cosine, like_ours(budget.seconds)
    linear = Schedule.linear(T=1000)
    yield "ours_eps_linear", "ours", linear, like_ours(budget.seconds, linear)


OTHER: dict[str, dict[str, Any]] = {  # what is not as usual in the network
    "course_our_recipe": {"target": "v"},
    "ours_no_labels": {"num_classes": None},
    "ours_eps_linear": {"target": "eps"},
}


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """Every run, and at every mark the five measures of metrics.quality on samples from the same initial noise."""
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    curves: dict[str, list[dict[str, Any]]] = {}
    for name, network, schedule, training in runs(budget, train):
        torch.manual_seed(0)
        model = getattr(networks, network)(**OTHER.get(name, {}))
        for seconds, updates, trained in training(model):
            labels = trained.num_classes is not None
            # a training that hid some of the labels, as ours does, allows guidance
            for row, scale in ((name, 1.0), ("ours_guided", budget.guidance))[: 1 + (name == "ours")]:
                started = time.perf_counter()
                how = {
                    "solver": budget.solver,
                    "steps": budget.steps,
                    "eta": budget.eta,
                    "labels": labels,
                    "clip": CLIP,
                }
                samples = draw_samples(trained, schedule, budget.samples, guidance=scale, **how)
                drawn = time.perf_counter() - started
                point = {"seconds": seconds, "updates": updates, "sampling_seconds": drawn, **_judge(samples, real)}
                curves.setdefault(row, []).append(point)
                for earlier in curves[row][:-1]:
                    earlier.pop("grid", None)  # the pictures at the end will do
                print(f"  {row}: {seconds:.0f} s, Fréchet distance {point['frechet']['value']:.2f}", flush=True)
    return {
        "samples": budget.samples,
        "solver": budget.solver,
        "steps": budget.steps,
        "eta": budget.eta,
        "guidance": budget.guidance,
        "clip": CLIP,
        "marks": budget.marks,
        "real": len(real),
        "images": train.name,
        "own_recipe": _own_recipe(),
        "bfloat16": Trainer(networks.ours(), Schedule.cosine(T=10), train).uses_bfloat16,
        "perfect": _judge(perfect[: budget.samples], real),
        "curves": curves,
    }


def _own_recipe() -> dict[str, Any]:
    """The settings of chapter 6's training and of its loss."""
    loss = Denoising(Schedule.cosine(T=1000))
    return asdict(TrainConfig(seed=0)) | {
        name: getattr(loss, name) for name in ("min_snr", "even_times", "label_dropout")
    }


def _judge(samples: torch.Tensor, real: torch.Tensor) -> dict[str, Any]:
    """The measures, and the first 64 images as a PNG."""
    buffer = io.BytesIO()
    grid_image(samples[:64], columns=8, scale=1, gap=1).save(buffer, "png", optimize=True)
    return {**asdict(quality(samples, real)), "grid": base64.b64encode(buffer.getvalue()).decode()}
