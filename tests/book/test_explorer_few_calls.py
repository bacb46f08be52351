"""Few calls, real pictures (chapter 14): each row is what the package's sampler draws, and the reading is true of it."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes import UNet
from diffnotes.book.explorers import build_few_calls, few_calls
from diffnotes.book.explorers.few_calls import REFERENCE, ROWS, anew_times, draw
from diffnotes.book.live import widgets as live
from diffnotes.process.consistency import consistency_sample
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, heun_sample, karras_times

SCHEDULE = Schedule.cosine()
DIGITS = torch.rand(30, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Counted:
    """A denoiser that notes how many pictures, and how many times in all, it was asked for."""

    target = "x0"

    def __init__(self, schedule: Schedule = SCHEDULE, images: torch.Tensor = DIGITS) -> None:
        self.exact = DatasetDenoiser(schedule, images, torch.arange(len(images)) % 10)
        self.asked: list[int] = []

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(len(x_t))
        return self.exact(x_t, t, y)


def network(channels: int = 1, classes: int | None = 4, target: str = "v", shape=(1, 12, 8)) -> UNet:
    """A small network, not trained, but no longer all zeros at its end."""
    torch.manual_seed(0)
    model = UNet(
        channels=8,
        multipliers=(1,),
        blocks=1,
        attention=0,
        patch=4,
        target=target,
        num_classes=classes,
        image_channels=channels,
    )
    with torch.no_grad():
        model.last.weight.normal_(0, 0.3)
        if model.label is not None:
            model.label.weight.mul_(5)
    model.item_shape = shape
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_few_calls(Counted(), SCHEDULE, calls=(3, 4, 7), number=4)


# -- what is drawn ------------------------------------------------------------------------------------------------------


def expected(
    model, schedule: Schedule, x_T: torch.Tensor, calls: int, y: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """The rows, by the samplers of the package."""
    start = int(karras_times(schedule, 1)[0])
    samples = (
        ddim_sample(model, schedule, x_T, steps=calls, start=start, y=y),
        heun_sample(model, schedule, x_T, steps=(calls + 1) // 2, y=y),
        dpm_solver_sample(model, schedule, x_T, steps=calls, y=y),
        consistency_sample(model, schedule, x_T, times=anew_times(start, calls), y=y, generator=5),
    )
    return {name: [*frames][-1].x_t for name, frames in zip(ROWS, samples, strict=True)}


@pytest.mark.parametrize(
    ("model", "shape", "labels"),
    [
        (DatasetDenoiser(SCHEDULE, DIGITS.double(), torch.arange(30) % 10), (1, 28, 28), True),
        (network(), (1, 12, 8), True),
        (network(channels=3, classes=None, target="eps", shape=(3, 8, 8)), (3, 8, 8), False),
        (network(channels=3, classes=None, target="x0", shape=(3, 8, 8)), (3, 8, 8), False),
    ],
)
def test_every_row_is_what_the_sampler_of_the_package_draws(model, shape, labels):
    x_T = initial_noise(1, 5, shape)
    x_T, y = x_T.double() if shape[1] == 28 else x_T, torch.tensor([0, 3, 1, 1, 2]) if labels else None
    drawn = draw(model, SCHEDULE, x_T, (1, 3, 6), y, seed=5)
    for calls in (1, 3, 6):
        for name, picture in expected(model, SCHEDULE, x_T, calls, y).items():
            off = (drawn.rows[calls][name] - picture).abs().max() / picture.abs().max()
            assert off < 1e-4, (calls, name)
    *_, last = dpm_solver_sample(model, SCHEDULE, x_T, steps=REFERENCE, y=y)
    torch.testing.assert_close(drawn.reference, last.x_t, atol=1e-4, rtol=1e-4)


def test_each_row_costs_the_calls_that_the_slider_says():
    model = Counted()
    draw(model, SCHEDULE, initial_noise(0, 4), range(3, 13), torch.arange(4))
    heun = sum(2 * ((calls + 1) // 2) - 1 for calls in range(3, 13))
    assert len(model.asked) == 3 * sum(range(3, 13)) + heun + REFERENCE


def test_the_times_of_noise_added_anew():
    assert anew_times(992, 4) == [992, 799, 590, 351, 0] and anew_times(992, 1) == [992, 0]
    for start, calls in ((12, 12), (20, 15), (992, 40)):
        times = anew_times(start, calls)
        assert len(times) == calls + 1 and times[0] == start and times[-1] == 0
        assert all(t > s for t, s in zip(times, times[1:], strict=False))


# -- what is shown ------------------------------------------------------------------------------------------------------


def test_the_picture_holds_the_rows_one_under_the_other(explorer):
    explorer.controls["calls"].value = 7
    drawn = draw(Counted(), SCHEDULE, initial_noise(0, 4), (3, 4, 7), torch.arange(4))
    sheet = np.asarray(explorer.plot.artists[0].get_array())
    for i, row in enumerate([drawn.reference, *(drawn.rows[7][name] for name in ROWS)]):
        one = sheet[30 * i : 30 * i + 28, 30:58]  # the second picture
        shade = (row[1, 0].clamp(-1, 1).numpy() + 1) * 127.5
        assert np.abs(one - shade).max() <= 0.51
    names = [label.get_text() for label in explorer.plot.figure.axes[0].get_yticklabels()]
    assert names == [f"2M, {REFERENCE} calls", *ROWS]


@pytest.mark.parametrize("calls", [3, 4, 7])
def test_the_reading_gives_the_calls_and_the_differences(explorer, calls):
    explorer.controls["calls"].value = calls
    words = explorer.reading.value
    assert words.startswith(f"{calls} calls of the network for each picture.")
    x_T, y = initial_noise(0, 4), torch.arange(4)
    *_, last = dpm_solver_sample(Counted(), SCHEDULE, x_T, steps=REFERENCE, y=y)
    steps = (calls + 1) // 2
    rows = expected(Counted(), SCHEDULE, x_T, calls, y)
    for name, before in (("DDIM", "DDIM"), ("Heun", rf"Heun \({2 * steps - 1} calls: {steps} steps\)"), ("2M", ", 2M")):
        off = float(re.search(rf"{before} (\d+\.\d\d)", words)[1])
        assert off == pytest.approx((rows[name] - last.x_t).square().mean().sqrt().item(), abs=0.006)


def test_the_slider_moves_the_picture_and_reset_brings_it_back(explorer):
    assert explorer.values() == {"calls": 7} and explorer.controls["calls"].description == "calls"
    first, reading = sent(explorer), explorer.reading.value
    explorer.controls["calls"].value = 3
    assert (sent(explorer) != first).any() and explorer.reading.value != reading
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    few_calls(Counted(), SCHEDULE, calls=(2, 3), number=2)
    assert 'alt="Five rows of 2 pictures' in shown[0] and "with 3 calls by DDIM" in shown[0]
    assert "3 calls of the network for each picture" in shown[0]


def test_pictures_in_colour_and_models_without_labels():
    explorer = build_few_calls(network(channels=3, classes=None, shape=(3, 8, 16)), SCHEDULE, calls=(2, 3), number=3)
    assert explorer.plot.artists[0].get_array().shape == (5 * 10 - 2, 3 * 18 - 2, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"calls": (4,)}, r"calls must hold at least 2 numbers of calls >= 1, got \[4\]"),
        ({"calls": (0, 4)}, r"calls must hold at least 2 numbers of calls >= 1, got \[0, 4\]"),
        ({"number": 0}, "number must be at least 1, got 0"),
    ],
)
def test_bad_first_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        build_few_calls(Counted(), SCHEDULE, **wrong)
