"""Drawing while someone waits: few calls of the network, placed where they count, by a solver of second order (chapter 14)."""

from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.losses import Denoiser
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, karras_times, most_karras_steps

Images = Float[Tensor, "batch channel height width"]


def quick_times(schedule: Schedule, steps: int) -> Int[Tensor, "calls"]:
    """The times of `steps` calls of the network, on Karras' grid (book, eq. 14.8); of as many as the schedule has times between
    the grid's ends, if that is less."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return karras_times(schedule, min(steps, most_karras_steps(schedule)))[:-1]


def draw(
    model: Denoiser, schedule: Schedule, x_T: Images, steps: int, y: Tensor | None = None, seed: int | None = None
) -> Images:
    """Images from x_T with one call at each of `quick_times`, by DPM-Solver++(2M) (book, eq. 14.5); with a seed, by its
    stochastic form SDE-2M (book, eq. 14.12), whose fresh noise takes the place of errors of the steps before.

    The predicted images are clipped to [-1, 1] (book, eq. 7.7), which a guided prediction would leave far behind."""
    times, eta = quick_times(schedule, steps), int(seed is not None)
    *_, last = dpm_solver_sample(model, schedule, x_T, times=times, eta=eta, clip=True, y=y, generator=seed)
    return last.x_t
