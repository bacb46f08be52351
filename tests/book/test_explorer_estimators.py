import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers.estimators import DOTS, LARGEST, build_estimators, estimators
from diffnotes.book.live import widgets as live

TRUTH = 1.5
SPREADS = {10: {"wide": 3.0, "middling": 1.0, "narrow": 0.5}, 100: {"wide": 9.0, "middling": 3.0, "narrow": 0.5}}


@pytest.fixture(scope="module")
def draws() -> dict[int, dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 3, 4000, generator=g, dtype=torch.float64)
    return {
        T: {name: TRUTH + spread * noise[i, j] for j, (name, spread) in enumerate(SPREADS[T].items())}
        for i, T in enumerate(SPREADS)
    }


@pytest.fixture(scope="module")
def built(draws) -> live.Explorer:
    return build_estimators(draws, TRUTH)


@pytest.fixture
def explorer(built) -> live.Explorer:
    built.reset()  # quicker than a new one
    return built


def put(explorer: live.Explorer, **values: int) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def sent(explorer: live.Explorer) -> np.ndarray:
    """The pixels that the explorer's picture shows."""
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB"))


def error_of(way: str, explorer: live.Explorer) -> float:
    """The standard error that the reading gives for a way."""
    found = re.search(rf"{way} (\d+\.\d+)", explorer.reading.value)
    assert found is not None, explorer.reading.value
    return float(found[1])


@pytest.mark.parametrize(("T", "n"), [(10, 1), (10, 25), (100, 1), (100, 100)])
def test_the_reading_gives_how_far_means_of_n_fresh_draws_scatter(explorer, T, n):
    put(explorer, T=T, n=n)
    dice = np.random.default_rng(3)
    for way, spread in SPREADS[T].items():
        means = dice.normal(TRUTH, spread, size=(5000, n)).mean(1)  # of other draws than the explorer's
        assert error_of(way, explorer) == pytest.approx(means.std(), rel=0.05)


@pytest.mark.parametrize("n", [1, 7, 100])
def test_the_ratio_compares_the_first_way_with_the_last_and_does_not_depend_on_n(explorer, draws, n):
    put(explorer, n=n)
    ratio = draws[10]["wide"].std() / draws[10]["narrow"].std()
    assert f"The first is {ratio:.1f} times as large as the last" in explorer.reading.value
    assert f"needs {ratio**2:.0f} times as many draws" in explorer.reading.value


def test_with_more_steps_the_reading_is_that_of_their_draws(explorer, draws):
    put(explorer, T=100)
    ratio = draws[100]["wide"].std() / draws[100]["narrow"].std()
    assert f"The first is {ratio:.1f} times" in explorer.reading.value and "T = 100" in explorer.reading.value


@pytest.mark.parametrize("n", [1, 8, 64])
def test_every_point_is_the_mean_of_n_draws_of_its_own(explorer, draws, n):
    put(explorer, n=n)
    for panel in (0, 3):
        for cloud, values in zip(explorer.plot.artists[panel : panel + 3], draws[10].values(), strict=True):
            x = np.asarray(cloud.get_xdata())
            expected = [values[k * n : (k + 1) * n].mean().item() for k in range(min(DOTS, 4000 // n))]
            np.testing.assert_allclose(x, expected, rtol=1e-12)


def test_the_clouds_stand_in_rows_and_the_bars_reach_one_standard_error(explorer, draws):
    put(explorer, n=4)
    for i, values in enumerate(draws[10].values()):
        cloud, bar = explorer.plot.artists[i], explorer.plot.artists[6 + i]
        row = 2 - i
        assert np.abs(np.asarray(cloud.get_ydata()) - row).max() < 0.5 and set(bar.get_ydata()) == {row}
        error = values.std().item() / math.sqrt(4)
        np.testing.assert_allclose(bar.get_xdata(), [TRUTH - error, TRUTH + error])


@pytest.mark.parametrize(("name", "value"), [("T", 100), ("n", 30)])
def test_every_control_moves_the_picture_and_has_a_name(explorer, name, value):
    before, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != before).any() and explorer.reading.value != reading
    assert explorer.controls[name].description


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    put(explorer, T=100, n=LARGEST)
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(draws, monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    estimators(draws, TRUTH)
    assert "3 rows of points around the same dotted line, for T = 10" in shown[0]
    assert "The row of &#x27;wide&#x27; is spread widest, that of &#x27;narrow&#x27; lies closest" in shown[0]
    assert "T = 10, a single draw; standard error in nats: wide" in shown[0]


def test_two_ways_and_one_length_of_chain_will_do(draws):
    explorer = build_estimators({10: {name: draws[10][name] for name in ("wide", "narrow")}}, TRUTH)
    assert len(explorer.plot.artists) == 8 and "wide" in explorer.reading.value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {}, "estimates must hold the draws of at least one T, got none"),
        (lambda d: {10: {"wide": d[10]["wide"]}}, "estimates must hold 2 to 4 ways for each T, got 1"),
        (
            lambda d: {10: dict.fromkeys("abcde", d[10]["wide"])},
            "estimates must hold 2 to 4 ways for each T, got 5",
        ),
        (
            lambda d: {10: d[10], 100: {"wide": d[100]["wide"], "other": d[100]["narrow"]}},
            "the same ways for each T, got ['wide', 'middling', 'narrow'] and, for T = 100, ['wide', 'other']",
        ),
        (
            lambda d: {10: {name: values[:199] for name, values in d[10].items()}},
            "at least 200 draws of each way in one dimension, got shape (199,) for 'wide', T = 10",
        ),
        (
            lambda d: {10: {name: values.reshape(400, 10) for name, values in d[10].items()}},
            "in one dimension, got shape (400, 10) for 'wide', T = 10",
        ),
    ],
)
def test_it_refuses_estimates_that_it_cannot_show(draws, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_estimators(change(draws), TRUTH)
