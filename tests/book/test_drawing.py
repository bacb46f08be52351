"""Few calls of a network, where someone waits for a picture."""

import pytest
import torch

from diffnotes import Schedule, initial_noise
from diffnotes.book.live.drawing import draw, quick_times
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.solvers import dpm_solver_sample, karras_times

SCHEDULE = Schedule.cosine(T=1000)


class Counted:
    """A denoiser that counts how often it is called, and predicts far beyond the range of images."""

    target = "x0"

    def __init__(self) -> None:
        self.times: list[int] = []

    def __call__(self, x_t, t, y=None):
        self.times.append(int(t[0]))
        return 3 * x_t.sign()


def test_the_calls_are_at_karras_times():
    model = Counted()
    draw(model, SCHEDULE, initial_noise(0, 2), 5)
    assert model.times == quick_times(SCHEDULE, 5).tolist() == karras_times(SCHEDULE, 5)[:-1].tolist()
    assert len(model.times) == 5 and model.times[0] == 992


def test_there_are_no_more_calls_than_the_schedule_has_times_for():
    assert quick_times(Schedule.cosine(T=4), 9).tolist() == [4, 3, 2, 1]
    assert len(quick_times(Schedule.linear(T=1000), 1000)) < 1000


def test_no_call_at_all_is_refused():
    with pytest.raises(ValueError, match=r"^steps must be at least 1, got 0$"):
        draw(Counted(), SCHEDULE, initial_noise(0, 2), 0)


def test_the_pictures_stay_in_their_range():
    assert draw(Counted(), SCHEDULE, initial_noise(0, 2), 4).abs().max() <= 1


def test_with_a_seed_there_is_fresh_noise():
    x_T, model = initial_noise(0, 2), GaussianDenoiser(SCHEDULE, variance=0.1)
    without, one, again, other = (draw(model, SCHEDULE, x_T, 6, seed=seed) for seed in (None, 1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, without)
    *_, last = dpm_solver_sample(model, SCHEDULE, x_T, steps=6, eta=1, clip=True, generator=1)
    assert torch.equal(one, last.x_t)
