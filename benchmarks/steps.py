"""How many sampling steps, and with how much fresh noise? The trained network of the package, without labels, judged at
the end of few steps and of many."""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from benchmarks.measure import CLIP, Budget
from benchmarks.networks import parameters
from diffnotes import Images, Schedule, ddim_sample, ddpm_sample, dpm_solver_sample, initial_noise, load_pretrained
from diffnotes.process.losses import Denoiser
from diffnotes.training.metrics import held_out, quality

CHUNK = 100  # images sampled at a time
SPACINGS = ("uniform", "quadratic")
SAMPLERS: dict[str, Callable[..., Any]] = {  # less fresh noise before more; DDIM with eta = 1 is DDPM with beta-tilde
    "DDIM, η = 0": partial(ddim_sample, eta=0.0),
    "DDIM, η = 0.5": partial(ddim_sample, eta=0.5),
    "η = 1: DDPM, variance β-tilde": partial(ddim_sample, eta=1.0),
    "DDPM, variance β": partial(ddpm_sample, variance="beta"),
}
SOLVERS: dict[str, Callable[..., Any]] = {  # of second order, one call a step, on Karras' grid
    "DPM-Solver++(2M)": partial(dpm_solver_sample, eta=0),
    "SDE-DPM-Solver++(2M)": partial(dpm_solver_sample, eta=1),
}


def measure(budget: Budget, test: Images) -> dict[str, Any]:
    """Every sampler with every spacing and every number of steps, and the solvers on Karras' grid with as many calls, from the
    same initial noise; and real images."""
    model, schedule = load_pretrained("mnist-small")
    perfect, real = held_out(test.x, min(budget.perfect, len(test) // 4))

    def points(name: str, sampler: Callable[..., Any], spacing: str) -> list[dict[str, Any]]:
        found = []
        for steps in budget.sampling_steps:
            started = time.perf_counter()
            samples = sample(sampler, model, schedule, budget.many, steps, spacing)
            seconds = time.perf_counter() - started
            found.append({"steps": steps, "sampling_seconds": seconds, **asdict(quality(samples, real))})
            print(f"  {name}, {spacing}, {steps}: {found[-1]['frechet']['value']:.1f}", flush=True)
        return found

    curves = {
        name: {spacing: points(name, sampler, spacing) for spacing in SPACINGS} for name, sampler in SAMPLERS.items()
    }
    return {
        "samples": budget.many,
        "real": len(real),
        "clip": CLIP,
        "parameters": parameters(model),
        "schedule": schedule.name,
        "target": model.target,
        "perfect": asdict(quality(perfect[: budget.many], real)),
        "curves": curves,
        "karras": {name: points(name, sampler, "karras") for name, sampler in SOLVERS.items()},
    }


def sample(
    sampler: Callable[..., Any], model: Denoiser, schedule: Schedule, number: int, steps: int, spacing: str
) -> torch.Tensor:
    """`number` images, always from the same initial noise, and from fresh noise that no two of them share."""
    ends = []
    for i, x_T in enumerate(initial_noise(seed=0, batch=number).split(CHUNK)):
        *_, last = sampler(model, schedule, x_T, steps=steps, spacing=spacing, clip=CLIP, generator=i)
        ends.append(last.x_t)
    return torch.cat(ends)
