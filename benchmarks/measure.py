"""What all sections share: how much to measure, the clock, the spread, the machine."""

import gc
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks import networks

CLIP = True  # in sampling, the predicted image is cut to [-1, 1], where pixels lie: so do the peers' own samplers
PACKAGES = ("torch", "diffusers", "denoising-diffusion-pytorch", "diffnotes")


@dataclass(frozen=True)
class Budget:
    """How much is measured.

    names           networks, of networks.NAMES
    batch           images in a forward pass or an update, for throughput and cost
    rounds          how often each thing is timed; the things take turns
    at_least        seconds that one timing lasts, by repetition if need be
    matmul          sides of the square matrices whose products give the machine's peak
    own             training budgets of our own network in updates, each a run of its own; the seconds of the last are the
                    time that every other network gets (see clock)
    seeds           runs of ours for each of these budgets
    marks           shares of that time at which a peer is looked at on the way
    samples         images drawn to judge a network
    solver, steps, eta    the sampler they are drawn with, of process/choose.py, its steps, and DDIM's fresh noise: the same for
                    every network, so that all get as many calls
    guidance        the scale of classifier-free guidance, where it is used
    many            images drawn for the number of sampling steps and for the ablation, where differences are small
    ablation_updates, runs    of the run as it is, the time of which every run of the ablation gets, and which runs, of
                    ablation.RUNS; all if empty
    race            of the race of transformers and U-Nets: its time is that in which chapter 6's network makes so many updates
    race_images, race_samples    test images for each tenth of the times, and digits drawn, to judge each of its networks
    portrait        budgets of the family portrait: a name, and how many updates of chapter 6's network take that time
    portrait_samples    images drawn by each of its models
    bits_images     test images of which bits per dimension are measured
    perfect         test images that stand in for a perfect model; the others are measured against
    batches, channels, sides, sampling_steps      what the cost is measured against"""

    names: tuple[str, ...] = networks.NAMES
    batch: int = 32
    rounds: int = 9
    at_least: float = 0.25
    matmul: tuple[int, ...] = (512, 1024, 2048)
    own: tuple[int, ...] = (288, 840)
    seeds: int = 3
    marks: tuple[float, ...] = (1 / 6, 1 / 2, 1)
    samples: int = 256
    solver: str = "ddim"
    steps: int = 20
    eta: float = 1.0
    guidance: float = 1.5
    many: int = 500
    ablation_updates: int = 560
    runs: tuple[str, ...] = ()
    race: int = 90
    race_images: int = 64
    race_samples: int = 200
    portrait: dict[str, int] = field(default_factory=lambda: {"1": 280, "3": 840, "10": 2800})
    portrait_samples: int = 1000
    bits_images: int = 200
    perfect: int = 2000
    batches: tuple[int, ...] = (8, 16, 32, 64, 128)
    channels: tuple[int, ...] = (16, 32, 48, 64, 96)
    sides: tuple[int, ...] = (28, 56, 84, 112)
    sampling_steps: tuple[int, ...] = (5, 10, 20, 50, 100)


def clock() -> float:
    """Seconds so far: with one thread those that this process has computed, so that other work on the machine, which takes
    turns with it, does not count; with several threads those that have passed."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def pace(steps: Iterator[object], skip: int = 3, number: int = 12) -> float:
    """Seconds that one of these steps takes: the median of `number` of them, after the first few."""
    for _ in range(skip):
        next(steps)
    times = []
    for _ in range(number):
        started = clock()
        next(steps)
        times.append(clock() - started)
    return statistics.median(times)


def spread(values: list[float]) -> dict[str, float]:
    """The median and the quartiles."""
    if len(values) == 1:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, at_least: float = 0.0) -> dict[str, list[float]]:
    """Seconds of each call, `rounds` times: in every round each has its turn, so that a slow minute of the machine slows
    all of them. A first call of each is not counted; a short one is repeated until the timing lasts `at_least` seconds."""
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, math.ceil(at_least / max(_timed(call, 1), 1e-9))) if at_least else 1
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # what is there now is not looked through again before each timing
    for _ in range(rounds):
        for name, call in calls.items():
            gc.collect()
            times[name].append(_timed(call, repeats[name]))
    gc.unfreeze()
    return times


def _timed(call: Callable[[], object], repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def quotients(above: list[float], below: list[float]) -> dict[str, float]:
    """Median and quartiles of the quotient within each round."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def training_step(model: Any, x: torch.Tensor, t: torch.Tensor) -> None:
    """Forward and backward, without the optimiser."""
    model.zero_grad()
    model(x, t).square().mean().backward()


def batch_of(number: int, side: int = 28) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (number, 1, side, side) and times (number,)."""
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(number, 1, side, side, generator=dice)
    return x, torch.randint(1, 1001, (number,), generator=dice)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    if package == "torch":
        return torch.__version__  # with the name of the build
    try:
        return version(package)
    except PackageNotFoundError:
        return None
