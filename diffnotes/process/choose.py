"""One sampler out of five, by name: what the command line and the measurements choose from.

    "dpm++"       DPM-Solver++(2M): deterministic, second order              (Lu et al. 2022b; book, eq. 14.5)
    "sde-dpm++"   SDE-DPM-Solver++(2M): the same with fresh noise            (Lu et al. 2022b; book, eq. 14.12)
    "heun"        Heun's method: deterministic, second order                 (Karras et al. 2022, algorithm 1; book, eq. 14.6)
    "ddim"        DDIM: first order, with as much fresh noise as eta says    (Song, Meng and Ermon 2021; book, eq. 8.7)
    "ddpm"        DDPM: ancestral sampling with the variance beta-tilde      (Ho et al. 2020; book, eq. 7.6)

The first three place their calls of the model on Karras' grid (book, eq. 14.8), the last two evenly in t. A step costs one
call, one of Heun's two: 2 steps - 1 in all. The grid begins at the noise level 80; with fresh noise at 20, for twenty calls
on MNIST drew better digits when none of them was spent above it.
"""

from collections.abc import Iterator
from typing import Any

import torch

from diffnotes.process.arguments import FloatLike, IntLike, Labels, choice, number
from diffnotes.process.forward import Images
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import Frame, ddim_sample, ddpm_sample
from diffnotes.process.schedules import Schedule, check_schedule
from diffnotes.process.solvers import dpm_solver_sample, heun_sample, karras_times, most_karras_steps

USUAL_STEPS = {"dpm++": 8, "sde-dpm++": 20, "heun": 10, "ddim": 50, "ddpm": 50}
SOLVERS = tuple(USUAL_STEPS)
EVEN_IN_T = ("ddim", "ddpm")
STOCHASTIC_HIGHEST = 20.0  # the noise level at which "sde-dpm++" begins


def usual_solver(labels: bool) -> str:
    """With labels "dpm++", without them "sde-dpm++": there fresh noise makes up for what the network predicts less well."""
    return "dpm++" if labels else "sde-dpm++"


def usual_steps(schedule: Schedule, solver: str, start: IntLike | None = None) -> int:
    """The usual number of steps of a solver, or as many as the schedule has times for it, if that is less."""
    choice("solver", solver, SOLVERS)
    check_schedule(schedule)
    if solver in EVEN_IN_T:
        return min(USUAL_STEPS[solver], int(schedule.subsequence(1, start=start)[-1]))
    return min(USUAL_STEPS[solver], most_karras_steps(schedule, _start(schedule, solver, start)))


def _start(schedule: Schedule, solver: str, start: IntLike | None) -> IntLike | None:
    """The time at which the solver begins, where it is not its usual one."""
    if start is None and solver == "sde-dpm++":
        return int(karras_times(schedule, 1, highest=STOCHASTIC_HIGHEST)[0])
    return start


def sample_with(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    solver: str = "dpm++",
    steps: IntLike | None = None,
    y: Labels | None = None,
    clip: bool = False,
    generator: torch.Generator | IntLike | None = None,
    eta: FloatLike = 0.0,
    start: IntLike | None = None,
) -> Iterator[Frame]:
    """Sample from x_T with the solver of this name, see above: yields steps + 1 Frames, the last one at t = 0.

    steps: usual_steps unless given, 8 with "dpm++". eta: of "ddim" alone. y, clip, generator, start: as in samplers.py."""
    choice("solver", solver, SOLVERS)
    given: dict[str, Any] = {
        "steps": usual_steps(schedule, solver, start) if steps is None else steps,
        "y": y, "clip": clip, "generator": generator, "start": _start(schedule, solver, start),
    }  # fmt: skip
    if solver == "ddim":
        return ddim_sample(model, schedule, x_T, eta=eta, **given)
    number("eta", eta, f'be 0 with solver "{solver}", for it belongs to "ddim"', lambda v: v == 0)
    if solver == "ddpm":
        return ddpm_sample(model, schedule, x_T, **given)
    if solver == "heun":
        return heun_sample(model, schedule, x_T, **given)
    return dpm_solver_sample(model, schedule, x_T, eta=int(solver == "sde-dpm++"), **given)
