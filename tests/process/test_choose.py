"""A sampler by its name is the sampler of that name."""

import itertools

import pytest
import torch

from diffnotes.process.choose import SOLVERS, sample_with, usual_solver, usual_steps
from diffnotes.process.samplers import ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, heun_sample

COSINE = Schedule.cosine()


class Counter:
    """A denoiser that notes its times and labels."""

    target = "x0"

    def __init__(self) -> None:
        self.calls: list[tuple[int, object]] = []

    def __call__(self, x_t, t, y=None):
        self.calls.append((int(t[0]), y))
        return torch.tanh(2 * x_t) * 1.2


BY_HAND = {
    "dpm++": lambda *given, **more: dpm_solver_sample(*given, order=2, eta=0, spacing="karras", **more),
    "sde-dpm++": lambda *given, start, **more: dpm_solver_sample(
        *given, order=2, eta=1, spacing="karras", start=start or 968, **more
    ),
    "heun": lambda *given, **more: heun_sample(*given, churn=0, spacing="karras", **more),
    "ddim": lambda *given, **more: ddim_sample(*given, eta=0, spacing="uniform", **more),
    "ddpm": lambda *given, **more: ddpm_sample(*given, variance="beta_tilde", spacing="uniform", **more),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("start", [None, 400])
def test_a_solver_is_the_function_of_that_name_with_the_same_arguments(solver, clip, start):
    x_T, y = initial_noise(0, 3, (2,)), torch.tensor([1, 2, 3])
    given = {"steps": 6, "y": y, "clip": clip, "generator": 4, "start": start}
    ours, theirs = Counter(), Counter()
    frames = list(sample_with(ours, COSINE, x_T, solver=solver, **given))
    for one, other in zip(frames, BY_HAND[solver](theirs, COSINE, x_T, **given), strict=True):
        assert one.t == other.t and torch.equal(one.x_t, other.x_t) and torch.equal(one.x0_hat, other.x0_hat)
    assert [t for t, _ in ours.calls] == [t for t, _ in theirs.calls]
    assert all(labels is y for _, labels in ours.calls)
    assert len(ours.calls) == (11 if solver == "heun" else 6)


def test_the_solvers_draw_five_different_images():
    x_T = initial_noise(0, 1, (2,)) / 4
    drawn = []
    for solver in SOLVERS:
        *_, last = sample_with(Counter(), COSINE, x_T, solver=solver, steps=6, generator=4)
        drawn.append(last.x_t)
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in itertools.combinations(drawn, 2))


def test_eta_is_ddim_s():
    x_T = initial_noise(0, 2, (2,))
    *_, ours = sample_with(Counter(), COSINE, x_T, solver="ddim", steps=6, eta=1, generator=4)
    *_, theirs = ddpm_sample(Counter(), COSINE, x_T, steps=6, generator=4)
    assert torch.allclose(ours.x_t, theirs.x_t, atol=1e-5)
    for solver in SOLVERS:
        if solver != "ddim":
            expected = (
                rf'^eta must be 0 with solver "{solver.replace("+", "[+]")}", for it belongs to "ddim", got 1\.0$'
            )
            with pytest.raises(ValueError, match=expected):
                sample_with(Counter(), COSINE, x_T, solver=solver, steps=6, eta=1.0)


def test_without_a_word_it_is_dpm_solver_in_8_steps():
    model = Counter()
    frames = list(sample_with(model, COSINE, initial_noise(0, 2, (2,))))
    assert [frame.t for frame in frames] == [992, 983, 962, 906, 740, 368, 84, 7, 0] and len(model.calls) == 8


@pytest.mark.parametrize(
    ("schedule", "start", "expected"),
    [
        (COSINE, None, {"dpm++": 8, "sde-dpm++": 20, "heun": 10, "ddim": 50, "ddpm": 50}),
        (COSINE, 9, {"dpm++": 3, "sde-dpm++": 3, "heun": 3, "ddim": 9, "ddpm": 9}),
        (Schedule.linear(20), None, {"dpm++": 8, "sde-dpm++": 19, "heun": 10, "ddim": 20, "ddpm": 20}),
        (Schedule.cosine(5), None, {"dpm++": 5, "sde-dpm++": 5, "heun": 5, "ddim": 5, "ddpm": 5}),
    ],
)
def test_the_usual_steps_are_as_many_as_there_are_times_at_most(schedule, start, expected):
    assert {solver: usual_steps(schedule, solver, start) for solver in SOLVERS} == expected
    for solver, steps in expected.items():
        frames = list(sample_with(Counter(), schedule, initial_noise(0, 2, (2,)), solver=solver, start=start))
        assert len(frames) == steps + 1


def test_the_usual_solver_goes_by_whether_there_are_labels():
    assert (usual_solver(labels=True), usual_solver(labels=False)) == ("dpm++", "sde-dpm++")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"solver": "euler"}, r'solver must be one of "dpm\+\+", "sde-dpm\+\+", "heun", "ddim", "ddpm", got \'euler\''),
        ({"solver": 3}, r"solver must be one of .*, got 3"),
        ({"steps": 0}, r"steps must be an integer from 1 to T = 1000, got 0"),
        ({"start": 0}, r"start must be an integer from 1 to T = 1000, got 0"),
        ({"solver": "ddpm", "start": 1001}, r"start must be an integer from 1 to T = 1000, got 1001"),
        ({"schedule": None}, r"schedule must be a Schedule, got NoneType; .*"),
    ],
)
def test_what_there_is_not_is_refused_at_the_call(as_installed, given, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        sample_with(**{"model": Counter(), "schedule": COSINE, "x_T": initial_noise(0, 2, (2,))} | given)
