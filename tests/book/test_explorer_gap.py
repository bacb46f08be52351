import re

import numpy as np
import pytest
from pixels import sent

from diffnotes.book.explorers.gap import LOWEST, S, W, build_gap, gap, posterior_of
from diffnotes.book.live import widgets as live

STATES = [(1.5, 0.4, 0.3), (0.0, 2.0, 1.0), (2.0, 0.0, 0.25), (0.7, 1.32, 0.85)]


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_gap()


def put(explorer: live.Explorer, **values: float) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def read(explorer: live.Explorer) -> dict[str, float]:
    """The numbers of the reading by the words before them."""
    words = ("log p(x) =", "= ELBO", "+ gap", "reconstruction", "a KL to the prior of", "Of the gap,", "by", "and")
    found = {word: re.search(re.escape(word) + r" (-?\d+\.\d+)", explorer.reading.value) for word in words}
    return {word: float(match[1]) for word, match in found.items() if match}


def by_quadrature(x: float, m: float, sigma: float) -> dict[str, float]:
    """The same account by sums over a fine grid of z, from nothing but the three bells of the model and its q."""
    z = np.linspace(-12, 12, 48_001)

    def log_bell(x, mean, spread):
        return -0.5 * np.log(2 * np.pi * spread**2) - (x - mean) ** 2 / (2 * spread**2)

    def total(values):
        return values.sum() * (z[1] - z[0])

    log_q, log_joint = log_bell(z, m, sigma), log_bell(z, 0, 1) + log_bell(x, W * z, S)
    q, log_p = np.exp(log_q), np.log(total(np.exp(log_joint)))
    return {
        "log p(x) =": log_p,
        "= ELBO": total(q * (log_joint - log_q)),
        "+ gap": total(q * (log_q - (log_joint - log_p))),
        "reconstruction": total(q * log_bell(x, W * z, S)),
        "a KL to the prior of": total(q * (log_q - log_bell(z, 0, 1))),
    }


@pytest.mark.parametrize("state", STATES)
def test_the_reading_gives_the_account(explorer, state):
    put(explorer, **dict(zip(("x", "m", "sigma"), state, strict=True)))
    said = read(explorer)
    for words, value in by_quadrature(*state).items():
        assert said[words] == pytest.approx(value, abs=6e-4), words


def test_the_two_parts_of_the_gap_are_those_of_a_wrong_mean_and_of_a_wrong_standard_deviation(explorer):
    said = read(explorer)
    of_mean, of_sigma = by_quadrature(1.5, 0.4, 0.6), by_quadrature(1.5, 1.2, 0.3)
    assert said["Of the gap,"] == pytest.approx(of_mean["+ gap"], abs=6e-4)
    assert said["and"] == pytest.approx(of_sigma["+ gap"], abs=6e-4)
    assert said["by"] == 0.8 and "a standard deviation of 0.30 instead of 0.60" in explorer.reading.value


@pytest.mark.parametrize("x", [0.0, 0.45, 1.5, 2.0])
def test_the_gap_closes_where_q_is_the_posterior(explorer, x):
    assert read(explorer)["+ gap"] > 0.5
    put(explorer, x=x, m=0.8 * x, sigma=0.6)
    assert read(explorer)["+ gap"] == 0 and "q is the posterior" in explorer.reading.value
    assert "-0.000" not in explorer.reading.value
    assert posterior_of(x) == pytest.approx((0.8 * x, 0.6))


def test_the_prior_pays_nothing(explorer):
    put(explorer, m=0.0, sigma=1.0)
    assert read(explorer)["a KL to the prior of"] == 0 and "q is the prior" in explorer.reading.value
    assert read(explorer)["+ gap"] == pytest.approx(by_quadrature(1.5, 0, 1)["+ gap"], abs=6e-4)


@pytest.mark.parametrize("state", STATES)
def test_the_boxes_lead_from_0_to_log_p(explorer, state):
    put(explorer, **dict(zip(("x", "m", "sigma"), state, strict=True)))
    boxes, (log_p, elbo) = explorer.plot.artists[3:6], explorer.plot.artists[6:8]
    true = by_quadrature(*state)
    reconstruction, kl, missing = [(box.get_y(), box.get_y() + box.get_height()) for box in boxes]
    assert reconstruction == pytest.approx((true["reconstruction"], 0), abs=1e-6)
    assert kl == pytest.approx((true["= ELBO"], true["reconstruction"]), abs=1e-6)
    assert missing == pytest.approx((true["= ELBO"], true["log p(x) ="]), abs=1e-6)
    assert log_p.get_ydata() == pytest.approx([true["log p(x) ="]] * 2, abs=1e-6)
    assert elbo.get_ydata() == pytest.approx([true["= ELBO"]] * 2, abs=1e-6)


def test_the_bells_are_prior_posterior_and_q(explorer):
    (z, prior), (_, posterior), (_, approximate) = (line.get_data() for line in explorer.plot.artists[:3])
    together = np.exp(-(z**2) / 2 - (1.5 - W * z) ** 2 / (2 * S**2))
    np.testing.assert_allclose(posterior, together / np.trapezoid(together, z), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(prior, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), rtol=1e-6)
    np.testing.assert_allclose(approximate, np.exp(-((z - 0.4) ** 2) / 0.18) / (0.3 * np.sqrt(2 * np.pi)), rtol=1e-6)


@pytest.mark.parametrize("x", [0.0, 2.0])
@pytest.mark.parametrize("m", [0.0, 2.0])
@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_bells_and_boxes_stay_within_the_axes(explorer, x, m, sigma):
    put(explorer, x=x, m=m, sigma=sigma)
    bells, sums = explorer.plot.figure.axes
    assert max(line.get_ydata().max() for line in explorer.plot.artists[:3]) < bells.get_ylim()[1]
    assert all(LOWEST < box.get_y() and box.get_y() + box.get_height() <= 0 for box in explorer.plot.artists[3:6])
    assert sums.get_ylim()[0] == LOWEST


@pytest.mark.parametrize(("name", "value"), [("x", 0.8), ("m", 1.2), ("sigma", 0.6)])
def test_every_control_moves_the_picture_and_has_a_name(explorer, name, value):
    before, reading = sent(explorer), explorer.reading.value
    explorer.controls[name].value = value
    assert (sent(explorer) != before).any() and explorer.reading.value != reading
    assert explorer.controls[name].description


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = sent(explorer), explorer.reading.value
    put(explorer, x=0.0, m=2.0, sigma=1.0)
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


def test_a_picture_stands_behind_it(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    monkeypatch.setattr(live, "display", lambda what, **_: shown.append(what["text/html"]))
    gap(x=1.0, m=0.2, sigma=0.5)
    assert "the posterior around 0.8 and, dashed, the approximate posterior q around 0.2" in shown[0]
    assert f"from 0 to {by_quadrature(1.0, 0.2, 0.5)['reconstruction']:.2f} nats" in shown[0]
    assert "log p(x) = -1.419 nats" in shown[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": -0.1}, "x must lie in 0..2, got -0.1"),
        ({"m": 2.1}, "m must lie in 0..2, got 2.1"),
        ({"sigma": 0.2}, "sigma must lie in 0.25..1, got 0.2"),
    ],
)
def test_it_refuses_values_that_no_slider_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_gap(**wrong)
