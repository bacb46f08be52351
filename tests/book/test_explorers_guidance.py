import io

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers.guidance import GuidedBetween, build_guidance, ink, spread
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, noise_level
from diffnotes.training.grid import grid_image

SCHEDULE = Schedule.cosine(T=100)
DIGITS = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
MODEL = DatasetDenoiser(SCHEDULE, DIGITS, torch.arange(20) % 10)


def sent(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("L"))


@pytest.fixture
def explorer():
    return build_guidance(MODEL, SCHEDULE, digit=3, scale=2.0, number=4, steps=5)


def drawn(digit: int, scale: float, seed: int) -> torch.Tensor:
    y = torch.full((4,), digit)
    guided, x_T = ClassifierFreeGuidance(MODEL, scale), initial_noise(seed, 4)
    *_, last = dpm_solver_sample(guided, SCHEDULE, x_T, steps=5, clip=True, y=y)
    return last.x_t


def test_it_shows_what_the_guided_sampler_draws_for_every_slider(explorer):
    assert (sent(explorer.plot.image) == np.asarray(grid_image(drawn(3, 2.0, 0), 4, scale=3))).all()
    for name, value in (("digit", 7), ("scale", 4.5), ("seed", 11)):
        explorer.controls[name].value = value
    assert (sent(explorer.plot.image) == np.asarray(grid_image(drawn(7, 4.5, 11), 4, scale=3))).all()


def test_the_reading_tells_the_cases_apart_and_counts_the_calls(explorer):
    assert "guided, digit 3 · 10 network calls" in explorer.reading.value
    for scale, words in (
        (0.0, "unconditional, the label is not used"),
        (0.5, "between unconditional and conditional, digit 3"),
        (1.0, "conditional, digit 3 · "),
    ):
        explorer.controls["scale"].value = scale
        assert words in explorer.reading.value
    assert "5 network calls" in explorer.reading.value


def test_the_reading_gives_spread_and_ink_of_what_is_shown(explorer):
    x = drawn(3, 2.0, 0)
    assert f"{spread(x):.2f}" in explorer.reading.value and f"{100 * ink(x):.0f} %" in explorer.reading.value


def test_with_full_guidance_nothing_leaves_the_range(explorer):
    explorer.controls["scale"].value = 10.0
    x = drawn(3, 10.0, 0)
    assert x.abs().max() <= 1 and (sent(explorer.plot.image) == np.asarray(grid_image(x, 4, scale=3))).all()


def test_guidance_between_two_noise_levels_guides_there_and_nowhere_else():
    guided = ClassifierFreeGuidance(MODEL, 3.0)
    between, y = GuidedBetween(guided, SCHEDULE), torch.tensor([3, 7])
    x_t = initial_noise(1, 2)
    found = []
    for t in range(1, 101):
        times = torch.full((2,), t)
        prediction = between(x_t, times, y)
        assert torch.equal(prediction, (guided if between.guides(times).all() else MODEL)(x_t, times, y))
        if between.guides(times).all():
            found.append(float(noise_level(SCHEDULE)[t]))
    assert 1 <= min(found) < 1.1 and 4.5 < max(found) <= 5 and between.target == "x0"
    assert torch.equal(between(x_t, times), MODEL(x_t, times))


def test_spread_and_ink_by_hand():
    two = torch.stack([torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), -0.5)])
    assert spread(two) == pytest.approx(0.5**0.5)  # variance 0.5 with n - 1
    assert ink(two) == 0.5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"digit": 10}, r"digit must lie in 0\.\.9, got 10"),
        ({"scale": -0.5}, r"scale must lie in 0\.\.10, got -0\.5"),
        ({"number": 1}, "number must be at least 2, for two drawings to be compared, got 1"),
    ],
)
def test_bad_first_values_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        build_guidance(MODEL, SCHEDULE, **given)
