import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from diffnotes.book.explorers import gaussians
from diffnotes.book.live import plots
from diffnotes.book.live import widgets as live
from diffnotes.book.live.widgets import Explorer


@pytest.fixture
def kl() -> Explorer:
    return gaussians.build_kl()


@pytest.fixture
def product() -> Explorer:
    return gaussians.build_product()


@pytest.fixture(scope="module")
def built_total() -> Explorer:
    return gaussians.build_total()


@pytest.fixture
def total(built_total) -> Explorer:
    built_total.reset()  # quicker than a new one
    return built_total


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The HTML that stands behind a widget for readers without a kernel."""
    lines: list[str] = []
    monkeypatch.setattr(live, "display", lambda bundle, **_: lines.append(bundle["text/html"]))
    return lines


def pixels(explorer: Explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.plot.image.value)).convert("RGB")).astype(int)


def curves(explorer: Explorer) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        tuple(np.asarray(part) for part in artist.get_data())
        for artist in explorer.plot.artists
        if hasattr(artist, "get_data")
    ]


def numbers(words: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w_.])-?\d+\.\d+", words)]


def put(explorer: Explorer, **values: float) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


def torch_kl(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> float:
    """The same divergence by torch's own distributions."""
    pairs = (torch.distributions.Normal(*torch.tensor(pair).double()) for pair in ((mu_1, sigma_1), (mu_2, sigma_2)))
    return torch.distributions.kl_divergence(*pairs).item()


# -- the sum of two noises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(0.8, 0.5, 0.0), (1.2, 0.5, 1.0), (0.6, 0.9, 0.45)])
def test_the_reading_gives_the_variance_of_the_sum(total, values):
    put(total, **dict(zip(("a", "b", "rho"), values, strict=True)))
    *weights, rho = values
    noises = np.random.default_rng(1).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=100_000)
    measured = (noises @ weights).var()  # of other draws than the explorer's
    formula, length, drawn = numbers(total.reading.value.split("<br>")[1])[1:]
    assert formula == pytest.approx(measured, rel=0.02, abs=5e-3) and drawn == pytest.approx(measured, rel=0.03)
    assert length**2 == pytest.approx(formula, rel=0.02)


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.5), (1.2, 0.5), (0.7, 0.7)])
def test_the_reading_compares_two_noises_with_one_used_twice(total, a, b):
    put(total, a=a, b=b)
    e_1, e_2 = np.random.default_rng(2).normal(size=(2, 200_000))
    apart, shared, times = numbers(total.reading.value.split("<br>")[0])
    assert apart == pytest.approx((a * e_1 + b * e_2).var(), rel=0.02)
    assert shared == pytest.approx((a * e_1 + b * e_1).var(), rel=0.02)
    assert times == pytest.approx(shared / apart, rel=0.01) and times <= 2


def test_the_cloud_is_round_for_two_noises_and_a_line_for_one(total):
    x, y = curves(total)[0]
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1
    put(total, rho=0.6)
    assert np.corrcoef(*curves(total)[0])[0, 1] == pytest.approx(0.6, abs=0.1)
    put(total, rho=1.0)
    np.testing.assert_allclose(*curves(total)[0])


@pytest.mark.parametrize("rho", [0.0, 0.35, 1.0])
def test_the_strokes_have_the_lengths_of_the_standard_deviations(total, rho):
    put(total, a=1.1, b=0.6, rho=rho)
    together, of_x, of_y = (np.hypot(*(np.diff(part)[0] for part in curve)) for curve in curves(total)[1:4])
    assert [of_x, of_y] == pytest.approx([1.1, 0.6])
    assert together**2 == pytest.approx(1.1**2 + 0.6**2 + 2 * rho * 1.1 * 0.6)


@pytest.mark.parametrize(("rho", "fits"), [(0.0, 4), (1.0, 5)])
def test_the_histogram_fits_the_bell_of_its_case(total, rho, fits):
    put(total, rho=rho)
    (bars,) = (artist for artist in total.plot.artists if not hasattr(artist, "get_data"))
    edges, heights = bars.get_paths()[0].vertices[1:-2].T
    assert np.trapezoid(heights, edges) == pytest.approx(1, abs=1e-3)
    off = [np.abs(heights[1:-1] - np.interp(edges, *curves(total)[bell])[1:-1]).max() for bell in (4, 5)]
    assert off[fits - 4] < 0.04 < 0.08 < off[5 - fits]


@pytest.mark.parametrize("a", [0.5, 1.2])
@pytest.mark.parametrize("b", [0.5, 1.2])
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_the_sum_stays_within_the_axes(total, a, b, rho):
    put(total, a=a, b=b, rho=rho)
    arrow_ax, sum_ax = total.plot.figure.axes[1:]
    (bars,) = (artist for artist in total.plot.artists if not hasattr(artist, "get_data"))
    highest = max(curve[1].max() for curve in curves(total)[4:]), bars.get_paths()[0].vertices[:, 1].max()
    assert max(highest) < sum_ax.get_ylim()[1]
    (x, y) = curves(total)[1]
    assert x.max() < arrow_ax.get_xlim()[1] and y.max() < arrow_ax.get_ylim()[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a": 0.4}, "a must lie in 0.5..1.2, got 0.4"),
        ({"b": 1.3}, "b must lie in 0.5..1.2, got 1.3"),
        ({"rho": -0.5}, "rho must lie in 0..1, got -0.5"),
    ],
)
def test_the_sum_refuses_values_that_no_slider_has(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        gaussians.build_total(**wrong)


# -- two Gaussians and their divergence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(0.0, 1.0, 1.0, 1.0), (-0.5, 0.7, 1.2, 1.8), (2.0, 2.0, -2.0, 0.6)])
def test_the_reading_gives_both_divergences(kl, values):
    put(kl, **dict(zip(("mu_1", "sigma_1", "mu_2", "sigma_2"), values, strict=True)))
    forward, backward, up, down = numbers(kl.reading.value)[:2] + numbers(kl.reading.value.split("<br>")[1])
    assert forward == pytest.approx(torch_kl(*values), abs=5e-4)
    assert backward == pytest.approx(torch_kl(*values[2:], *values[:2]), abs=5e-4)
    assert up - down == pytest.approx(torch_kl(*values), abs=2e-3)  # the area above zero, less the area below


def test_the_curves_are_the_two_densities_and_the_integrand(kl):
    put(kl, mu_1=-0.5, sigma_1=0.7, mu_2=1.2, sigma_2=1.8)
    (x, q), (_, p), (_, integrand) = curves(kl)
    expected_q = np.exp(-((x + 0.5) ** 2) / (2 * 0.49)) / (0.7 * np.sqrt(2 * np.pi))
    expected_p = np.exp(-((x - 1.2) ** 2) / (2 * 3.24)) / (1.8 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(q, expected_q, rtol=1e-12)
    np.testing.assert_allclose(p, expected_p, rtol=1e-12)
    np.testing.assert_allclose(integrand, expected_q * np.log(expected_q / expected_p), rtol=1e-9, atol=1e-15)


def test_the_areas_lie_between_the_integrand_and_zero(kl):
    put(kl, mu_2=-1.3)
    integrand = curves(kl)[2][1]
    above, below = (
        artist.get_paths()[0].vertices[:, 1] for artist in kl.plot.artists if not hasattr(artist, "get_data")
    )
    assert above.max() == integrand.max() and above.min() == 0
    assert below.min() == integrand.min() and below.max() == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mu_2": 0.0}, "the two distributions are the same"),
        ({"mu_2": 0.5}, "equal standard deviations: half the squared distance of the means over σ²"),
        ({"mu_2": 0.0, "sigma_2": 2.0}, "equal means: what counts is u = σ_1²/σ_2² = 0.25"),
        ({"sigma_2": 2.0}, "the order of the two distributions matters"),
    ],
)
def test_the_reading_names_the_case(kl, values, words):
    put(kl, **values)
    assert words in kl.reading.value


def test_it_says_when_the_curve_leaves_the_picture(kl):
    assert "leaves the picture" not in kl.reading.value
    put(kl, mu_1=-2.0, mu_2=2.0, sigma_2=0.4)
    assert "The curve leaves the picture" in kl.reading.value


@pytest.mark.parametrize("sigma_1", [0.4, 2.0])
@pytest.mark.parametrize("sigma_2", [0.4, 2.0])
@pytest.mark.parametrize("mu_2", [-2.0, 0.0, 2.0])
def test_bells_and_valleys_stay_within_the_axes(kl, sigma_1, sigma_2, mu_2):
    put(kl, mu_1=-2.0, sigma_1=sigma_1, mu_2=mu_2, sigma_2=sigma_2)
    (_, q), (_, p), (_, integrand) = curves(kl)
    assert max(q.max(), p.max()) < 1.05 and integrand.min() > gaussians.LOWEST
    assert "nan" not in kl.reading.value and "inf" not in kl.reading.value


# -- prior times likelihood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(-1.0, 1.0, 2.0, 0.5), (0.4, 3.0, -2.2, 0.2), (3.0, 0.1, -3.0, 4.0)])
def test_the_posterior_is_the_product_with_mass_1(product, values):
    put(product, **dict(zip(("m", "P", "y", "r"), values, strict=True)))
    (x, prior), (_, likelihood), (_, posterior) = curves(product)
    together = prior * likelihood
    np.testing.assert_allclose(posterior, together / np.trapezoid(together, x), rtol=1e-5, atol=1e-7)


def test_the_reading_gives_the_posterior(product):
    put(product, m=0.0, P=3.0, y=2.0, r=1.0)
    assert "1/P + 1/r = 0.33 + 1.00 = 1.33 = 1/V" in product.reading.value
    assert "Posterior mean 1.50, variance V = 0.75" in product.reading.value
    assert "the observation has a share of 75% in the mean, the prior 25%" in product.reading.value


def test_where_the_observation_lies_does_not_change_the_variance(product):
    heights = []
    for y in (-3.0, 0.0, 3.0):
        put(product, y=y)
        heights.append(curves(product)[2][1].max())
        assert "variance V = 0.33" in product.reading.value
    np.testing.assert_allclose(heights, heights[0], rtol=1e-3)


def test_the_sharpest_posterior_stays_within_the_axes(product):
    put(product, P=0.1, r=0.1)
    assert 1.7 < curves(product)[2][1].max() < 2.35


# -- all three ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["total", "kl", "product"])
def explorer(request: pytest.FixtureRequest) -> Explorer:
    return request.getfixturevalue(request.param)


def test_every_control_moves_the_picture_and_has_a_name(explorer):
    for control in explorer.controls.values():
        before = pixels(explorer)
        control.value += 0.3
        assert control.description and (pixels(explorer) != before).any()


def test_reset_goes_back_to_the_first_picture(explorer):
    first, reading = pixels(explorer), explorer.reading.value
    for control in explorer.controls.values():
        control.value = control.max
    explorer.reset()
    assert (pixels(explorer) == first).all() and explorer.reading.value == reading


@pytest.mark.parametrize(
    ("show", "words", "size"),
    [
        (gaussians.total, ("a narrow one of variance 0.89, for two noises", "(a + b)² = 1.69"), (1280, 1000)),
        (gaussians.kl, ("Above, two bells of standard deviation 1", "D_KL(q ‖ p) = 0.500 nats"), (1200, 940)),
        (gaussians.product, ("Three bells: the prior around -1", "Posterior mean 1.00"), (1200, 720)),
    ],
)
def test_a_picture_and_its_reading_stand_behind_the_explorer(show, words, size, shown):
    show()
    assert all(w in shown[0] for w in words)
    data = re.search(r"data:image/webp;base64,([^\"]+)", shown[0])
    assert data is not None and Image.open(io.BytesIO(base64.b64decode(data[1]))).size == size


def test_prior_and_posterior_have_colours_that_differ(product):
    prior, likelihood, posterior = (line.get_color() for line in product.plot.artists)
    assert [prior, likelihood, posterior] == [plots.BLUE, plots.ORANGE, plots.GREEN]
