import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import multivariate_normal, norm

from diffnotes.process.gaussian import discretized_log_likelihood, normal_kl, normal_log_density


def column(*values: float) -> torch.Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


# -- density --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "mean", "variance"), [(0.3, -0.2, 0.04), (5.0, 0.0, 1.0), (1.0, 1.0, 7.3)])
def test_log_density_is_scipys(x, mean, variance):
    ours = normal_log_density(column(x), column(mean), column(variance)).item()
    assert ours == pytest.approx(norm.logpdf(x, mean, math.sqrt(variance)), rel=1e-12)


def test_log_density_is_summed_over_the_pixels_of_each_image():
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 1, 2, 3)
    mean, variance = 0.3 * x.flip(0), (x + 2) / 3
    ours = normal_log_density(x, mean, variance).numpy()
    expected = [
        multivariate_normal.logpdf(x[i].flatten(), mean[i].flatten(), np.diag(variance[i].flatten())) for i in range(2)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_log_density_counts_every_pixel_when_mean_and_variance_are_single_numbers():
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    ours = normal_log_density(x, torch.tensor(0.0), torch.tensor(2.0)).item()
    assert ours == pytest.approx(norm.logpdf([0.1, 0.2, 0.3], 0, math.sqrt(2)).sum(), rel=1e-7)


# -- KL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distributions", [(0.0, 1.0, 0.0, 1.0), (0.5, 0.2, -1.0, 2.0), (0.0, 2.0, 0.3, 0.5)])
def test_kl_is_the_integral_of_the_definition(distributions):
    mean_1, variance_1, mean_2, variance_2 = distributions
    p, q = norm(mean_1, math.sqrt(variance_1)), norm(mean_2, math.sqrt(variance_2))
    integral, _ = quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -14, 14, epsabs=1e-13, limit=200)
    assert normal_kl(*[column(value) for value in distributions]).item() == pytest.approx(integral, abs=1e-9)


def test_kl_is_not_symmetric():
    narrow, wide = (column(0.0), column(0.1)), (column(0.0), column(1.0))
    # 1/2 (log 10 + 1/10 - 1) and 1/2 (-log 10 + 10 - 1)
    assert normal_kl(*narrow, *wide).item() == pytest.approx((math.log(10) - 0.9) / 2, rel=1e-12)
    assert normal_kl(*wide, *narrow).item() == pytest.approx((9 - math.log(10)) / 2, rel=1e-12)


def test_kl_is_summed_over_the_pixels_of_each_image(generator):
    mean_1, mean_2 = torch.randn(2, 3, 4, 1, 2, generator=generator, dtype=torch.float64)
    variance_1, variance_2 = torch.rand(2, 3, 4, 1, 2, generator=generator, dtype=torch.float64) + 0.1
    alone = [
        [
            normal_kl(*[column(v.item()) for v in pixel]).item()
            for pixel in zip(*[a.flatten() for a in image], strict=True)
        ]
        for image in zip(mean_1, variance_1, mean_2, variance_2, strict=True)
    ]
    ours = normal_kl(mean_1, variance_1, mean_2, variance_2).numpy()
    np.testing.assert_allclose(ours, np.sum(alone, axis=1), rtol=1e-12)


def test_kl_counts_every_pixel_when_only_the_means_have_pixels():
    mean, one = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor(1.0)
    assert normal_kl(mean, one, torch.tensor(0.0), one).item() == pytest.approx((1 + 4 + 9) / 2)
    assert normal_kl(torch.zeros(1, 3), torch.tensor(2.0), torch.tensor(0.0), one).item() == pytest.approx(
        3 * (1 - math.log(2)) / 2
    )


# -- the likelihood of grey values ----------------------------------------------------------------------------------


def grey_values(levels: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([-1 + 2 * k / (levels - 1) for k in range(levels)], dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mean", "variance"), [(0.1, 0.04), (-1.3, 1e-4), (0.0, 25.0)])
def test_probabilities_of_the_256_grey_values_sum_to_1(mean, variance, dtype):
    x0 = grey_values(256, dtype).reshape(-1, 1)
    log_p = discretized_log_likelihood(x0, torch.full_like(x0, mean), torch.full_like(x0, variance))
    # a grey value in float32 is off by up to 6e-8, and with it the edges of its interval
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_likelihood_is_the_normal_probability_of_the_interval(levels):
    x0, half, std = grey_values(levels), 1 / (levels - 1), 0.3
    ours = discretized_log_likelihood(
        x0.reshape(-1, 1), torch.full((levels, 1), 0.1, dtype=torch.float64), torch.tensor(std**2), levels
    )
    edges = np.concatenate([[-np.inf], (x0.numpy() + half)[:-1], [np.inf]])
    expected = np.log(np.diff(norm.cdf(edges, 0.1, std)))
    # cdf differences lose digits near 1, so compare where the probability is not tiny
    large = expected > math.log(1e-6)
    np.testing.assert_allclose(ours.numpy()[large], expected[large], rtol=1e-6)


@pytest.mark.parametrize(("mean", "sign"), [(-1.0, 1), (1.0, -1)])
def test_likelihood_is_accurate_where_the_cdf_is_0_or_1(mean, sign):
    # grey value 200 or its mirror image 55, 50 to 100 standard deviations away
    std, half, k = 0.0157, 1 / 255, 200
    x0 = sign * (-1 + 2 * k / 255)
    lower, upper = (-abs(x0 - mean) - half) / std, (-abs(x0 - mean) + half) / std
    expected = log_ndtr(upper) + math.log1p(-math.exp(log_ndtr(lower) - log_ndtr(upper)))
    ours = discretized_log_likelihood(column(x0), column(mean), column(std**2)).item()
    assert expected < -4000
    assert ours == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mean", [-3.0, 0.0, 3.0])
def test_likelihood_stays_finite_for_every_grey_value_under_a_narrow_distribution(mean):
    x0 = grey_values(256, torch.float32).reshape(-1, 1)
    log_p = discretized_log_likelihood(x0, torch.full_like(x0, mean), torch.tensor(1e-6))
    assert torch.isfinite(log_p).all()
    assert log_p.min().item() < -1e5


def test_likelihood_is_summed_over_the_pixels_of_each_image():
    x0 = grey_values(4).reshape(2, 1, 1, 2)
    mean, variance = x0.flip(0) / 2, torch.tensor(0.5)
    alone = [
        [
            discretized_log_likelihood(column(x), column(m), variance, 4).item()
            for x, m in zip(a.flatten(), b.flatten(), strict=True)
        ]
        for a, b in zip(x0, mean, strict=True)
    ]
    ours = discretized_log_likelihood(x0, mean, variance, 4).numpy()
    np.testing.assert_allclose(ours, np.sum(alone, axis=1), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1 + 2 / 255, -1 - 2 / 255, 0.5, math.nan])
def test_a_value_that_is_no_grey_value_is_refused(value):
    with pytest.raises(ValueError, match=r"^x0 must hold 256 evenly spaced grey values in \[-1, 1\]; found a value"):
        discretized_log_likelihood(column(1.0, value), column(0.0, 0.0), torch.tensor(1.0))


def test_fewer_than_two_levels_are_refused():
    with pytest.raises(ValueError, match=r"^levels must be an integer from 2 to 65536, got 1$"):
        discretized_log_likelihood(column(1.0), column(0.0), torch.tensor(1.0), 1)


@pytest.mark.parametrize(("variance", "shown"), [(0.0, "0"), (-0.5, "-0.5"), (math.nan, "nan")])
def test_a_variance_that_is_not_positive_is_refused_by_name(variance, shown):
    x, good, bad = column(1.0), column(1.0), column(variance)
    with pytest.raises(ValueError, match=rf"^variance must be positive, got a smallest value of {shown}$"):
        normal_log_density(x, x, bad)
    with pytest.raises(ValueError, match=rf"^variance_1 must be positive, got a smallest value of {shown}$"):
        normal_kl(x, bad, x, good)
    with pytest.raises(ValueError, match=rf"^variance_2 must be positive, got a smallest value of {shown}$"):
        normal_kl(x, good, x, bad)
    with pytest.raises(ValueError, match=rf"^variance must be positive, got a smallest value of {shown}$"):
        discretized_log_likelihood(x, x, bad)


def test_a_mean_and_a_variance_may_be_plain_numbers(as_installed):
    x = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    usual = normal_log_density(x, torch.tensor(0.5).double(), torch.tensor(2.0).double())
    for mean, variance in ((0.5, 2), (np.float64(0.5), np.int64(2)), (np.array(0.5), torch.tensor(2.0).double())):
        assert torch.equal(normal_log_density(x, mean, variance), usual)
    assert normal_kl(x, 2, x, 2).item() == 0


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ("0.5", r"be a number or a tensor, got '0\.5'$"),
        (None, r"be a number or a tensor, got None$"),
        (
            torch.zeros(4, 3),
            r"hold floating-point numbers and broadcast against \(2, 3\), got Tensor of shape \(4, 3\) and ",
        ),
        (
            torch.zeros(1, 2, 3),
            r"hold floating-point numbers and broadcast against \(2, 3\), got Tensor of shape \(1, 2, 3\) ",
        ),
        (
            torch.zeros(2, 3).int(),
            r"hold floating-point numbers and broadcast against \(2, 3\), got Tensor of .* torch\.int32$",
        ),
    ],
)
def test_a_mean_that_does_not_fit_is_refused_by_name(as_installed, mean, expected):
    with pytest.raises(ValueError, match="^mean must " + expected):
        normal_log_density(torch.zeros(2, 3), mean, 1.0)
    with pytest.raises(ValueError, match="^mean_2 must " + expected):
        normal_kl(torch.zeros(2, 3), 1.0, mean, 1.0)


def test_an_infinite_variance_is_refused():
    with pytest.raises(ValueError, match=r"^variance must be finite, got inf$"):
        normal_log_density(torch.zeros(2, 3), 0.0, math.inf)
