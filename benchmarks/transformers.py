"""Transformers beside U-Nets: three sizes of each, the same objective, images and time, one judge; and what the choices inside
a diffusion transformer are worth (book, chapter 16)."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import CLIP, Budget, clock, pace
from benchmarks.networks import CONFIG, LOSS, OURS, parameters
from diffnotes import Denoising, Images, Schedule, TrainConfig, Trainer, UNet
from diffnotes.models.dit import DiT
from diffnotes.process.losses import simple_loss
from diffnotes.training.metrics import draw_samples, held_out, quality

Make = Callable[[Tensor], nn.Module]  # from the mean of x_t at each time, an untrained network


def unet(channels: int, **other: Any) -> Make:
    """The U-Net of chapter 6 with so many channels."""
    return lambda mean: UNet(**{**OURS, "channels": channels, "input_mean": mean, **other})  # type: ignore[arg-type]


def dit(width: int, depth: int, heads: int, kind: type[DiT] = DiT, **other: Any) -> Make:
    """A diffusion transformer with patches of 4 x 4 pixels."""
    return lambda mean: kind(width, depth, heads, num_classes=10, input_mean=mean, **other)


class OpenGates(DiT):
    """A DiT whose gates begin at 1: every block is at work from the first update on."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        with torch.no_grad():
            self.tables[:, [2, 5]] = 1.0


class ByShape(DiT):
    """A DiT that leaves the division of its weights to the optimiser: by shape, and not by role."""

    muon_parameters = None  # type: ignore[assignment]


SEVERAL = dict(attention=2, head_channels=8)  # attention at both sizes of the feature maps, with several heads
RACERS: dict[str, Make] = {
    "unet small": unet(8),
    "unet middle": unet(16),
    "unet large": unet(32),  # the network of chapter 6
    "adm small": unet(8, **SEVERAL),
    "adm middle": unet(16, **SEVERAL),
    "adm large": unet(32, **SEVERAL),
    "dit small": dit(32, 3, 2),
    "dit middle": dit(48, 4, 3),
    "dit large": dit(96, 6, 3),
    "unet middle, sum before the norm": unet(16, conditioning="add"),
}
CHOICES: dict[str, tuple[Make, dict[str, Any]]] = {
    "as it is": (dit(48, 4, 3), {}),
    "Muon by shape": (dit(48, 4, 3, ByShape), {}),
    "AdamW for all": (dit(48, 4, 3), {"optimizer": "adamw"}),
    "without the 3 x 3": (dit(48, 4, 3, convolution=False), {}),
    "gates open": (dit(48, 4, 3, OpenGates), {}),
}


def trainer(make: Make, train: Images, updates: int, **other: Any) -> Trainer:
    """The recipe of chapter 6 around this network, before its first update; in a short run a fifth of it for the warm-up."""
    schedule = Schedule.cosine(T=1000)
    torch.manual_seed(0)
    model = make(schedule.alpha_bar.sqrt() * train.x.mean())
    config = {**CONFIG, "warmup": min(50, updates // 5), **other}
    return Trainer(model, Denoising(schedule, **LOSS), train, TrainConfig(**config))  # type: ignore[arg-type]


def training_flops(model: nn.Module) -> int:
    """Operations of a forward and a backward pass for one image, two for a product and a sum: three times those that torch
    counts forward. (Of depthwise convolutions it counts the backward pass as if they were dense.)"""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, 28, 28), torch.ones(1, dtype=torch.long), None)
    return 3 * counter.get_total_flops()


@torch.no_grad()
def error_by_time(model: nn.Module, schedule: Schedule, images: Images, number: int) -> list[float]:
    """The mean squared error of v for each tenth of the times, on so many test images with their labels, a pixel."""
    g = torch.Generator().manual_seed(0)
    x0, y = images.x[:number], images.y[:number]
    found = []
    for tenth in range(10):
        t = 1 + ((tenth + (torch.arange(number) + 0.5) / number) * schedule.T / 10).long()
        eps = torch.randn(x0.shape, generator=g)
        found.append(float(simple_loss(model, schedule, x0, t, eps, y).mean()))
    return found


def raced(run: Trainer, updates: int) -> tuple[float, list[list[float]]]:
    """Train; seconds, and a dozen points of the curve: seconds and mean loss since the last point."""
    started, points, since = clock(), [], 0
    marks = {math.ceil(updates * (k + 1) / 12) for k in range(12)}
    for state in run.steps(updates=updates):
        if state.update in marks:
            points.append([clock() - started, float(np.mean([s.loss for s in run.history[since:]]))])
            since = state.update
    return clock() - started, points


def race(budget: Budget, train: Images, test: Images, unit: float, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Each of these networks trained for `unit` seconds and judged."""
    _, real = held_out(test.x, min(budget.perfect, len(test) // 4))
    how = {"solver": budget.solver, "steps": budget.steps // 2, "eta": budget.eta, "labels": True, "clip": CLIP}
    rows = {}
    for name in names:
        step = pace(trainer(RACERS[name], train, 1000).steps(updates=1000), skip=2, number=6)
        updates = max(1, round(unit / step))
        run = trainer(RACERS[name], train, updates)
        flops = training_flops(run.model)
        seconds, curve = raced(run, updates)
        model, schedule = run.ema.model.eval(), run.schedule
        rows[name] = {
            "parameters": parameters(model), "flops": flops, "updates": updates, "seconds": seconds, "curve": curve,
            "error": error_by_time(model, schedule, test, budget.race_images),
            **asdict(quality(draw_samples(model, schedule, budget.race_samples, **how), real)),
        }  # fmt: skip
        error, distance = np.mean(rows[name]["error"]), rows[name]["frechet"]["value"]
        print(f"  {name}: {updates} updates, {seconds:.0f} s, error {error:.4f}, distance {distance:.1f}", flush=True)
    return rows


def choices(budget: Budget, train: Images, test: Images) -> dict[str, dict[str, Any]]:
    """The middle transformer with one thing changed, all for the same number of updates."""
    rows = {}
    for name, (make, config) in CHOICES.items():
        updates = max(1, 3 * budget.race // 2)
        run = trainer(make, train, updates, **config)
        seconds, curve = raced(run, updates)
        error = error_by_time(run.ema.model.eval(), run.schedule, test, budget.race_images)
        rows[name] = {"updates": run.update, "seconds": seconds, "curve": curve, "error": error}
        print(f"  {name}: {run.update} updates, {seconds:.0f} s, error {np.mean(error):.4f}", flush=True)
    return rows


def measure(budget: Budget, train: Images, test: Images) -> dict[str, Any]:
    """The race over the time in which chapter 6's network makes budget.race updates, and the choices."""
    unit = budget.race * pace(trainer(RACERS["unet large"], train, 1000).steps(updates=1000))
    return {
        "seconds": unit,
        "updates": budget.race,
        "threads": torch.get_num_threads(),
        "samples": budget.race_samples,
        "steps": budget.steps // 2,
        "eta": budget.eta,
        "images_of_the_error": budget.race_images,
        "rows": race(budget, train, test, unit, RACERS),
        "choices": choices(budget, train, test),
    }
