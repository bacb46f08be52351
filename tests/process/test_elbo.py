import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from diffnotes.process import elbo
from diffnotes.process.elbo import (
    ElboTerms,
    denoising_kl,
    elbo_terms,
    importance_distribution,
    mean_and_error,
    model_variance,
)
from diffnotes.process.exact import DatasetDenoiser, GaussianDenoiser
from diffnotes.process.losses import bound_weight
from diffnotes.process.schedules import Schedule

LINEAR, COSINE = Schedule.linear(), Schedule.cosine()
TIMES = torch.tensor([2, 17, 500, 1000])
SHORT = Schedule.from_betas([0.1, 0.3, 0.2, 0.5, 0.4])


class Fake:
    """A network whose prediction mixes x_t, t and y, so that a swapped argument shows."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, x_t, t, y=None):
        shift = t.double() / 1000 + (0 if y is None else 0.1 * y.double())
        return (0.3 * x_t + shift.reshape(-1, *[1] * (x_t.ndim - 1))).to(x_t.dtype)


class Estimate:
    """A network that predicts the same image for every input: its L_{t-1} does not depend on the noise. The grey of
    the estimate rises with t, and with the label, by which the tests tell images apart."""

    target = "x0"

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []
        self.batches: list[int] = []

    def __call__(self, x_t, t, y=None):
        y = torch.zeros_like(t) if y is None else y
        self.shown += zip(t.tolist(), y.tolist(), strict=True)
        self.batches.append(len(x_t))
        return torch.zeros_like(x_t) + (0.01 * t.double() + 0.1 * y.double()).reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t)


class Oracle:
    """A denoiser that returns the image itself, which the label names."""

    target = "x0"

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __call__(self, x_t, t, y=None):
        return self.images[y].to(x_t)


def grey_images(count: int, pixels: int = 6, seed: int = 1) -> torch.Tensor:
    """Images of random grey values, (count, 1, pixels / 2, 2), float64."""
    k = torch.randint(0, 256, (count, 1, pixels // 2, 2), generator=torch.Generator().manual_seed(seed))
    return -1 + 2 * k.double() / 255


def estimate_by_hand(schedule: Schedule, x0: torch.Tensor, t: int, y: int = 0, variance: str = "beta_tilde") -> float:
    """L_{t-1} of `Estimate` for one image, from the definition of the divergence of two normal distributions, pixel by pixel."""
    beta, abar = schedule.beta.tolist(), schedule.alpha_bar.tolist()
    beta_tilde = (1 - abar[t - 1]) / (1 - abar[t]) * beta[t]
    sigma2 = beta_tilde if variance == "beta_tilde" else beta[t]
    total = 0.0
    for x in x0.flatten().tolist():
        gap = math.sqrt(abar[t - 1]) * beta[t] / (1 - abar[t]) * (x - (0.01 * t + 0.1 * y))
        total += 0.5 * (math.log(sigma2 / beta_tilde) + (beta_tilde + gap**2) / sigma2 - 1)
    return total


def within_5_standard_errors(draws: torch.Tensor, expected: float) -> bool:
    mean, error = mean_and_error(draws)
    return abs(mean.item() - expected) <= 5 * error.item()


# -- against a slow computation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["beta_tilde", "beta"])
@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_every_term_is_what_a_loop_over_times_images_and_pixels_gives(linear_tables, target, variance):
    x0, y = grey_images(3), torch.tensor([2, 0, 1])
    terms = elbo_terms(
        Fake(target), LINEAR, x0, times=TIMES, variance=variance, y=y, generator=torch.Generator().manual_seed(5)
    )
    same = torch.Generator().manual_seed(5)
    noise = torch.randn(len(TIMES) * 3, 1, 3, 2, generator=same, dtype=torch.float64).reshape(len(TIMES), 3, 6)
    noise_1 = torch.randn(3, 1, 3, 2, generator=same, dtype=torch.float64).reshape(3, 6)
    beta, abar = linear_tables

    def estimate(x: float, eps: float, t: int, label: int) -> tuple[float, float]:
        a, b = math.sqrt(abar[t]), math.sqrt(1 - abar[t])
        x_t = a * x + b * eps
        prediction = 0.3 * x_t + t / 1000 + 0.1 * label
        estimates = {"x0": prediction, "eps": (x_t - b * prediction) / a, "v": a * x_t - b * prediction}
        return x_t, (estimates | {"u": (x_t - b * prediction) / (a + b)})[target]

    def posterior(t: int, x: float, x_t: float) -> tuple[float, float]:  # by completing the square
        precision = (1 - beta[t]) / beta[t] + 1 / (1 - abar[t - 1])
        pull = math.sqrt(1 - beta[t]) * x_t / beta[t] + math.sqrt(abar[t - 1]) * x / (1 - abar[t - 1])
        return pull / precision, 1 / precision

    for row, t in enumerate(TIMES.tolist()):
        for image in range(3):
            expected = 0.0
            for pixel, x in enumerate(x0[image].flatten().tolist()):
                x_t, x0_hat = estimate(x, noise[row, image, pixel].item(), t, int(y[image]))
                (mean, v), (mean_hat, _) = posterior(t, x, x_t), posterior(t, x0_hat, x_t)
                sigma2 = v if variance == "beta_tilde" else beta[t]
                expected += 0.5 * (math.log(sigma2 / v) + (v + (mean - mean_hat) ** 2) / sigma2 - 1)
            assert terms.denoising[row, image].item() == pytest.approx(expected, rel=1e-8)
    sigma2 = posterior(2, 0.0, 0.0)[1] if variance == "beta_tilde" else beta[1]
    for image in range(3):
        expected = 0.0
        for pixel, x in enumerate(x0[image].flatten().tolist()):
            _, x0_hat = estimate(x, noise_1[image, pixel].item(), 1, int(y[image]))
            upper, lower = (1 if x > 0.999 else norm.cdf(x + 1 / 255, x0_hat, math.sqrt(sigma2))), 0.0
            if x > -0.999:
                lower = norm.cdf(x - 1 / 255, x0_hat, math.sqrt(sigma2))
            if upper - lower > 1e-9 and upper < 0.9:
                expected -= math.log(upper - lower)
            else:  # far out, where only logarithms keep their digits
                a, b = ((x + s / 255 - x0_hat) / math.sqrt(sigma2) for s in (-1, 1))
                a, b = (a, b) if a + b < 0 else (-b, -a)
                a = -math.inf if x < -0.999 or x > 0.999 else a
                expected -= norm.logcdf(b) + math.log1p(-math.exp(norm.logcdf(a) - norm.logcdf(b)))
        assert terms.reconstruction[image].item() == pytest.approx(expected, rel=1e-8)


def test_the_sum_of_the_terms_is_the_bound_from_its_definition():
    """T = 2, one pixel: E over q of log q(x_1, x_2 | x_0) - log p(x_0, x_1, x_2), by a grid over x_1 and x_2."""
    schedule, x0 = Schedule.from_betas([0.3, 0.6]), -1 + 2 * 180 / 255
    (beta_1, beta_2), abar_1, abar_2 = (0.3, 0.6), 0.7, 0.28
    x1, x2 = np.meshgrid(*[np.linspace(-8, 8, 801)] * 2, indexing="ij")
    log_q = norm.logpdf(x1, math.sqrt(0.7) * x0, math.sqrt(0.3)) + norm.logpdf(x2, math.sqrt(0.4) * x1, math.sqrt(0.6))

    def x0_hat(x_t, t):
        return 0.3 * x_t + t / 1000

    beta_tilde_2 = (1 - abar_1) / (1 - abar_2) * beta_2
    mean = math.sqrt(0.4) * (1 - abar_1) / (1 - abar_2) * x2 + math.sqrt(abar_1) * beta_2 / (1 - abar_2) * x0_hat(x2, 2)
    for variance, sigma2_1, sigma2_2 in (("beta", beta_1, beta_2), ("beta_tilde", beta_tilde_2, beta_tilde_2)):
        decoder = norm(x0_hat(x1, 1), math.sqrt(sigma2_1))
        log_p = norm.logpdf(x2) + norm.logpdf(x1, mean, math.sqrt(sigma2_2))
        log_p = log_p + np.log(decoder.cdf(x0 + 1 / 255) - decoder.cdf(x0 - 1 / 255) + 1e-300)
        expected = (np.exp(log_q) * (log_q - log_p)).sum() * 0.02**2
        images = torch.full((20_000, 1), x0, dtype=torch.float64)
        g = torch.Generator().manual_seed(2)
        draws = elbo_terms(Fake("x0"), schedule, images, variance=variance, generator=g).total()
        assert within_5_standard_errors(draws, expected)
        assert mean_and_error(draws)[1].item() < 0.01 * expected


@pytest.mark.parametrize("levels", [256, None])
def test_a_chain_of_one_step_is_prior_and_decoder_alone(levels):
    schedule, x0 = Schedule.from_betas([0.4]), -1 + 2 * 180 / 255
    x1 = np.linspace(-8, 8, 4001)
    q = norm.pdf(x1, math.sqrt(0.6) * x0, math.sqrt(0.4))
    decoder = norm(0.3 * x1 + 1 / 1000, math.sqrt(0.4))
    log_p = np.log(decoder.cdf(x0 + 1 / 255) - decoder.cdf(x0 - 1 / 255)) if levels else decoder.logpdf(x0)
    expected = 0.5 * (0.6 * x0**2 - 0.6 - math.log(0.4)) - (q * log_p).sum() * 0.004
    images = torch.full((20_000, 1), x0, dtype=torch.float64)
    g = torch.Generator().manual_seed(3)
    for variance in ("beta", "beta_tilde"):  # there is no beta-tilde_2: both take beta_1
        terms = elbo_terms(Fake("x0"), schedule, images, variance=variance, levels=levels, generator=g)
        assert terms.denoising.shape == (0, 20_000)
        assert within_5_standard_errors(terms.total(), expected)


# -- against closed forms -----------------------------------------------------------------------------------------------


def gaussian_terms(tables, t: int, s2: float, variance: str) -> float:
    """L_{t-1} per pixel for data N(m, s^2) and the perfect estimate E[x_0 | x_t], whose squared error is Var(x_0 | x_t)."""
    beta, abar = tables
    beta_tilde = (1 - abar[t - 1]) / (1 - abar[t]) * beta[t]
    sigma2 = beta_tilde if variance == "beta_tilde" else beta[t]
    error = s2 * (1 - abar[t]) / (abar[t] * s2 + 1 - abar[t])
    gap = (math.sqrt(abar[t - 1]) * beta[t] / (1 - abar[t])) ** 2 * error
    return 0.5 * (math.log(sigma2 / beta_tilde) + (beta_tilde + gap) / sigma2 - 1)


@pytest.mark.parametrize("variance", ["beta_tilde", "beta"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gaussian_data_and_the_perfect_denoiser_give_the_closed_form(linear_tables, generator, variance, dtype):
    mean, s2 = 0.3, 0.25
    x0 = mean + math.sqrt(s2) * torch.randn(3000, 1, 4, 4, generator=generator, dtype=torch.float64)
    model = GaussianDenoiser(LINEAR, mean, s2)
    terms = elbo_terms(model, LINEAR, x0.to(dtype), times=TIMES, variance=variance, levels=None, generator=generator)
    for row, t in enumerate(TIMES.tolist()):
        expected = 16 * gaussian_terms(linear_tables, t, s2, variance)
        # at t = T with "beta" nothing is left but the constant, the same for all images
        assert within_5_standard_errors(terms.denoising[row], expected) or terms.denoising[row].mean().item() == (
            pytest.approx(expected, rel=1e-4)
        )


@pytest.mark.parametrize(
    ("s2", "variance", "tight"), [(1.0, "beta", True), (1.0, "beta_tilde", False), (0.25, "beta", False)]
)
def test_the_bound_is_tight_where_the_model_is_the_true_reverse_chain_and_above_the_truth_elsewhere(
    s2, variance, tight
):
    """Data N(0, s^2): for s = 1 the true reverse step has the variance beta_t. All steps of the model are linear, so
    -log p_theta(x_0) is known, and L_VLB - L_CE can be measured image by image (3.1)."""
    schedule, g = Schedule.linear(10, 0.02, 0.9), torch.Generator().manual_seed(4)
    x0 = math.sqrt(s2) * torch.randn(2000, 8, generator=g, dtype=torch.float64)
    model = GaussianDenoiser(schedule, 0.0, s2)
    terms = elbo_terms(model, schedule, x0, variance=variance, levels=None, generator=g)
    sigma2, abar, spread = model_variance(schedule, variance), schedule.alpha_bar, 1.0
    for t in range(10, 0, -1):  # the variance of x_{t-1} under the model
        gain = abar[t].sqrt() * s2 / (abar[t] * s2 + 1 - abar[t])
        beta, before = schedule.beta[t], abar[t - 1]
        slope = (1 - beta).sqrt() * (1 - before) / (1 - abar[t]) + before.sqrt() * beta / (1 - abar[t]) * gain
        spread = slope**2 * spread + sigma2[t]
    log_p = -0.5 * (torch.log(2 * math.pi * spread) + x0.square() / spread).sum(1)
    gap, error = mean_and_error(terms.total() + log_p)
    assert abs(gap) < 5 * error if tight else gap > 5 * error


def test_the_optimal_denoiser_of_n_images_has_a_bound_of_log_n():
    """The perfect denoiser of N images: the sum of its L_{t-1} is H(x_0 | x_T) - H(x_0 | x_1), almost log N, plus a small
    gap, for p(x_{t-1} | x_t) is a Gaussian and the true one a mixture."""
    images = grey_images(10, 40)
    terms = elbo_terms(
        DatasetDenoiser(COSINE, images), COSINE, images.repeat(4, 1, 1, 1), generator=torch.Generator().manual_seed(6)
    )
    mean, error = mean_and_error(terms.denoising.sum(0))
    assert math.log(10) - 5 * error < mean < 1.1 * math.log(10) + 5 * error


def test_a_denoiser_that_returns_the_image_costs_the_variance_and_the_decoder_only():
    x0 = grey_images(4)
    exact = elbo_terms(Oracle(x0), SHORT, x0, y=torch.arange(4))
    assert exact.denoising.abs().max() < 1e-12
    wide = elbo_terms(Oracle(x0), SHORT, x0, y=torch.arange(4), variance="beta")
    for row, t in enumerate(range(2, 6)):
        rho = ((1 - SHORT.alpha_bar[t - 1]) / (1 - SHORT.alpha_bar[t])).item()
        np.testing.assert_allclose(wide.denoising[row], 6 * 0.5 * (rho - 1 - math.log(rho)), rtol=1e-10)
    for terms, variance in ((exact, SHORT.posterior_variance[2]), (wide, SHORT.beta[1])):
        half = 1 / 255 / variance.sqrt().item()
        inner = (x0.abs() < 0.999).flatten(1).sum(1).double()
        expected = -inner * math.log(norm.cdf(half) - norm.cdf(-half)) - (6 - inner) * norm.logcdf(half)
        np.testing.assert_allclose(terms.reconstruction, expected, rtol=1e-10)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_terms_are_weights_times_squared_errors(generator, target):
    """With sigma_t^2 = beta-tilde_t, 1/2 (SNR(t-1) - SNR(t)) ||x_0 - x0_hat||^2; with beta_t, bound_weight times
    ||eps - eps_hat||^2, and a constant."""
    x0, t = grey_images(4), TIMES
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    a, b = LINEAR.alpha_bar[t].sqrt().reshape(-1, 1, 1, 1), (1 - LINEAR.alpha_bar[t]).sqrt().reshape(-1, 1, 1, 1)
    x_t = a * x0 + b * eps
    prediction = Fake(target)(x_t, t)
    estimates = {"x0": prediction, "eps": (x_t - b * prediction) / a, "v": a * x_t - b * prediction}
    x0_hat = (estimates | {"u": (x_t - b * prediction) / (a + b)})[target]
    eps_hat = (x_t - a * x0_hat) / b
    square = (x0 - x0_hat).square().flatten(1).sum(1)
    ours = denoising_kl(LINEAR, x0, x0_hat, x_t, t, model_variance(LINEAR))
    np.testing.assert_allclose(ours, 0.5 * (LINEAR.snr[t - 1] - LINEAR.snr[t]) * square, rtol=1e-7)
    ours = denoising_kl(LINEAR, x0, x0_hat, x_t, t, model_variance(LINEAR, "beta"))
    rho = LINEAR.posterior_variance[t] / LINEAR.beta[t]
    constant = 6 * 0.5 * (rho - 1 - rho.log())
    square = (eps - eps_hat).square().flatten(1).sum(1)
    np.testing.assert_allclose(ours, bound_weight(LINEAR, t) * square + constant, rtol=1e-7)


def test_prior_is_the_divergence_from_pure_noise():
    x0 = grey_images(3)
    terms = elbo_terms(Estimate(), SHORT, x0)
    abar = SHORT.alpha_bar[-1].item()
    expected = [0.5 * (abar * (x**2).sum().item() - 6 * abar - 6 * math.log(1 - abar)) for x in x0]
    np.testing.assert_allclose(terms.prior, expected, rtol=1e-12)


# -- which times, which images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("portion", [1, 3, 128])
def test_every_image_is_shown_once_at_every_time_and_its_term_lands_in_its_place(monkeypatch, portion):
    monkeypatch.setattr(elbo, "CHUNK", portion)
    model, x0, y = Estimate(), grey_images(4), torch.arange(4)
    terms = elbo_terms(model, SHORT, x0, y=y)
    assert sorted(model.shown) == sorted((t, image) for t in range(1, 6) for image in range(4))
    assert max(model.batches) <= portion
    expected = [[estimate_by_hand(SHORT, x0[image], t, image) for image in range(4)] for t in range(2, 6)]
    np.testing.assert_allclose(terms.denoising, expected, rtol=1e-10)
    assert terms.times.tolist() == [[t] * 4 for t in range(2, 6)]
    np.testing.assert_allclose(
        terms.total(), terms.prior.numpy() + np.sum(expected, axis=0) + terms.reconstruction.numpy(), rtol=1e-10
    )


def test_chosen_times_give_the_curve_in_their_order_and_no_total():
    x0, chosen = grey_images(3), torch.tensor([5, 2, 2])
    terms = elbo_terms(Estimate(), SHORT, x0, times=chosen, variance="beta")
    expected = [[estimate_by_hand(SHORT, image, t, variance="beta") for image in x0] for t in (5, 2, 2)]
    np.testing.assert_allclose(terms.denoising, expected, rtol=1e-10)
    with pytest.raises(
        ValueError, match=r"^total needs every t, or times drawn from a known distribution; these were chosen by ha"
    ):
        terms.total()


@pytest.mark.parametrize("distribution", [None, torch.tensor([0, 0, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)])
@pytest.mark.parametrize("draws", [1, 3])
def test_drawn_times_give_an_unbiased_total(distribution, draws):
    x0 = grey_images(1).expand(10_000, -1, -1, -1)
    g = torch.Generator().manual_seed(7)
    terms = elbo_terms(Estimate(), SHORT, x0, times=draws, distribution=distribution, generator=g)
    every = [estimate_by_hand(SHORT, x0[0], t) for t in range(2, 6)]
    estimate = (terms.weights * terms.denoising).sum(0)
    assert within_5_standard_errors(estimate, sum(every))
    p = np.full(4, 0.25) if distribution is None else distribution[2:].numpy()
    variance = ((np.array(every) ** 2 / p).sum() - sum(every) ** 2) / draws  # of one draw, over the draws
    assert estimate.var().item() == pytest.approx(variance, rel=0.07)
    np.testing.assert_allclose(
        terms.total(), terms.prior + estimate + terms.reconstruction, rtol=1e-12
    )  # all three are there


def test_a_chain_of_two_steps_has_one_time_to_draw():
    terms = elbo_terms(Estimate(), Schedule.from_betas([0.3, 0.6]), grey_images(2), times=3)
    assert (terms.times == 2).all() and terms.weights.tolist() == [[1 / 3] * 2] * 3


def test_times_are_drawn_by_the_distribution_and_anew_for_each_image():
    distribution = torch.tensor([0, 0, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    x0 = grey_images(1, 2).expand(5000, -1, -1, -1)
    terms = elbo_terms(
        Estimate(), SHORT, x0, times=4, distribution=distribution, generator=torch.Generator().manual_seed(8)
    )
    counts = torch.bincount(terms.times.flatten(), minlength=6).double()
    expected = 20_000 * distribution
    assert (counts[:2] == 0).all()
    assert ((counts - expected)[2:].square() / expected[2:]).sum() < 25  # chi-square, 3 degrees of freedom
    assert len({tuple(column) for column in terms.times.T.tolist()}) > 100
    np.testing.assert_allclose(terms.weights, 1 / (4 * distribution[terms.times]))


def test_same_seed_gives_the_same_terms_and_another_gives_others():
    x0 = grey_images(3)
    a, b, c = (
        elbo_terms(Fake("v"), LINEAR, x0, times=5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(a.total(), b.total()) and torch.equal(a.times, b.times)
    assert not torch.equal(a.total(), c.total())
    torch.manual_seed(11)
    d = elbo_terms(Fake("v"), LINEAR, x0, times=5)
    torch.manual_seed(11)
    assert torch.equal(d.total(), elbo_terms(Fake("v"), LINEAR, x0, times=5).total())


# -- variance, clipping, labels, precision --------------------------------------------------------------------------------


def test_model_variance_is_the_posteriors_or_beta_and_positive_at_the_decoder(linear_tables):
    beta, abar = linear_tables
    tilde = [(1 - abar[t - 1]) / (1 - abar[t]) * beta[t] for t in range(2, 1001)]
    np.testing.assert_allclose(model_variance(LINEAR)[1:], [tilde[0], *tilde], rtol=1e-9)
    np.testing.assert_allclose(model_variance(LINEAR, "beta"), beta, rtol=1e-12)
    assert LINEAR.posterior_variance[1] == 0  # the schedule's own table is left alone
    assert model_variance(Schedule.from_betas([0.4])).tolist() == pytest.approx([0, 0.4])


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_clip_cuts_the_estimate_to_the_range_of_images(edge):
    x0 = grey_images(2)

    class Far(Estimate):
        def __call__(self, x_t, t, y=None):
            return torch.full_like(x_t, 3 * edge)

    clipped = elbo_terms(Far(), SHORT, x0, clip=True)
    at_the_edge = elbo_terms(Oracle(torch.full_like(x0, edge)), SHORT, x0, y=torch.arange(2))
    np.testing.assert_allclose(clipped.denoising, at_the_edge.denoising, rtol=1e-12)
    np.testing.assert_allclose(clipped.reconstruction, at_the_edge.reconstruction, rtol=1e-12)
    assert (elbo_terms(Far(), SHORT, x0).denoising > 2 * clipped.denoising).all()


def test_fewer_grey_values_own_wider_intervals():
    """Black and white: the decoder's probability of a white pixel is that of being above 0."""
    x0 = torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64)
    terms = elbo_terms(Oracle(0.2 * x0), SHORT, x0, y=torch.tensor([0]), variance="beta", levels=2)
    assert terms.reconstruction.item() == pytest.approx(-2 * norm.logcdf(0.2 / math.sqrt(0.1)), rel=1e-10)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_terms_in_float32_keep_their_digits_at_both_ends_of_the_chain(target):
    """At t = T of the cosine schedule the two means differ by 1e-8, and L_{T-1} would drown in the rounding of float32."""
    x0, t = grey_images(3), torch.tensor([2, 3, 500, 999, 1000])
    runs = [
        elbo_terms(Fake(target), COSINE, x0.to(dtype), times=t, generator=torch.Generator().manual_seed(9))
        for dtype in (torch.float32, torch.float64)
    ]
    np.testing.assert_allclose(runs[0].denoising, runs[1].denoising, rtol=1e-3)
    np.testing.assert_allclose(runs[0].reconstruction, runs[1].reconstruction, rtol=1e-3)
    assert all(value.dtype == torch.float64 for value in (runs[0].prior, runs[0].denoising, runs[0].reconstruction))


def test_the_model_sees_the_images_precision_and_no_gradient_is_kept():
    class Line(Estimate):
        weight = torch.tensor(0.5, requires_grad=True)

        def __call__(self, x_t, t, y=None):
            assert x_t.dtype == torch.float32
            return self.weight * x_t

    assert not elbo_terms(Line(), SHORT, grey_images(2).float()).total().requires_grad


def test_zero_terminal_snr_has_finite_terms_for_v_and_none_for_eps():
    schedule, x0 = LINEAR.rescale_zero_terminal_snr(), grey_images(2)
    chosen = torch.tensor([2, 999, 1000])
    for variance in ("beta", "beta_tilde"):
        terms = elbo_terms(Fake("v"), schedule, x0, times=chosen, variance=variance)
        assert torch.isfinite(terms.denoising).all() and (terms.denoising >= 0).all()
    assert terms.prior.tolist() == [0, 0]
    with pytest.raises(ValueError, match="zero terminal SNR"):
        elbo_terms(Fake("eps"), schedule, x0, times=chosen)


# -- bits ---------------------------------------------------------------------------------------------------------------


def terms_of(nats: list[float], dims: int, density: bool = False) -> ElboTerms:
    """Terms whose totals are known."""
    total = torch.tensor(nats, dtype=torch.float64)
    nothing = torch.zeros(0, len(total), dtype=torch.float64)
    return ElboTerms(total / 4, nothing.long(), nothing, 3 * total / 4, nothing, dims, density)


def test_bits_per_dim_of_a_coin_for_each_pixel_is_1():
    assert terms_of([784 * math.log(2)], 784).bits_per_dim().item() == pytest.approx(1, rel=1e-12)


def test_bits_per_dim_of_256_equal_grey_values_is_8_by_probability_and_by_density():
    assert terms_of([10 * math.log(256)], 10).bits_per_dim().item() == pytest.approx(8, rel=1e-12)
    # 256 intervals of length 2 / 255 side by side: the density is 255 / 512
    by_density = terms_of([10 * math.log(512 / 255)], 10, density=True)
    assert by_density.bits_per_dim().item() == pytest.approx(8, rel=1e-12)


def test_density_and_grey_values_agree_where_a_grey_value_is_narrow():
    x0 = grey_images(2000, 4)
    runs = [
        elbo_terms(Fake("x0"), SHORT, x0, levels=n, generator=torch.Generator().manual_seed(3)) for n in (256, None)
    ]
    inner = (x0.abs() < 0.999).flatten(1).all(1)  # the two outer intervals reach to infinity
    assert inner.sum() > 1000
    a, b = (run.bits_per_dim()[inner] for run in runs)
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_bound_of_gaussian_data_in_bits_is_their_entropy():
    """Data N(0, 1), sigma_t^2 = beta_t: the bound is tight, and -log p has the mean 1/2 log(2 pi e) for each pixel."""
    schedule, g = Schedule.linear(10, 0.02, 0.9), torch.Generator().manual_seed(10)
    x0 = torch.randn(2000, 16, generator=g, dtype=torch.float64)
    terms = elbo_terms(GaussianDenoiser(schedule), schedule, x0, variance="beta", levels=None, generator=g)
    entropy = 0.5 * math.log2(2 * math.pi * math.e) + math.log2(127.5)
    assert within_5_standard_errors(terms.bits_per_dim(), entropy)
    assert mean_and_error(terms.bits_per_dim())[1] < 0.005 * entropy


def test_mean_and_error_are_those_of_numpy(generator):
    values = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    mean, error = mean_and_error(values)
    np.testing.assert_allclose(mean, values.numpy().mean(1))
    np.testing.assert_allclose(error, values.numpy().std(1, ddof=1) / math.sqrt(50))
    assert mean_and_error(values[0])[0].shape == ()
    assert [v.item() for v in mean_and_error(torch.tensor([1.0, 3.0]))] == pytest.approx([2, 1])


# -- importance sampling ------------------------------------------------------------------------------------------------


def variance_of_one_draw(terms: np.ndarray, p: np.ndarray) -> float:
    """Of L_t / p_t with t drawn by p and one image drawn from the columns."""
    return ((terms**2).mean(1) / p).sum() - terms.mean(1).sum() ** 2


def test_importance_distribution_is_its_formula():
    distribution = importance_distribution(torch.tensor([4.0, 9.0, 25.0], dtype=torch.float64))
    assert distribution.tolist() == pytest.approx([0, 0, 0.2, 0.3, 0.5])
    mixed = importance_distribution(torch.tensor([4.0, 9.0, 25.0], dtype=torch.float64), uniform=0.3)
    assert mixed.tolist() == pytest.approx([0, 0, 0.24, 0.31, 0.45])
    assert importance_distribution(torch.tensor([0.0, 1.0]), uniform=1.0).tolist() == pytest.approx([0, 0, 0.5, 0.5])


def test_importance_distribution_has_the_smallest_variance(generator):
    terms = torch.rand(6, 40, generator=generator, dtype=torch.float64).pow(3).numpy() * np.arange(1, 7)[:, None] ** 2
    best = importance_distribution(torch.from_numpy(terms).square().mean(1))[2:].numpy()
    least = variance_of_one_draw(terms, best)
    assert least < 0.8 * variance_of_one_draw(terms, np.full(6, 1 / 6))
    for _ in range(200):
        other = best * np.exp(0.2 * torch.randn(6, generator=generator).double().numpy())
        assert least < variance_of_one_draw(terms, other / other.sum())


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["fixed", "beta-tilde"])
def test_an_unknown_variance_is_refused(variance):
    with pytest.raises(ValueError, match=rf'^variance must be "beta" or "beta_tilde", got {variance!r}$'):
        elbo_terms(Estimate(), SHORT, grey_images(2), variance=variance)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"^x0 must hold at least one image, got none$"):
        elbo_terms(Estimate(), SHORT, grey_images(2)[:0])


def test_images_that_are_not_quantised_are_refused_unless_the_decoder_is_a_density():
    x0 = 0.99 * grey_images(2)
    with pytest.raises(ValueError, match=r"^x0 must hold 256 evenly spaced grey values in \[-1, 1\]"):
        elbo_terms(Estimate(), SHORT, x0)
    assert elbo_terms(Estimate(), SHORT, x0, levels=None).density


@pytest.mark.parametrize("t", [0, 1, 6])
def test_times_outside_2_to_T_are_refused(t):
    with pytest.raises(ValueError, match=rf"^times must lie in 2\.\.5, got {t}\.\.{t}$"):
        elbo_terms(Estimate(), SHORT, grey_images(2), times=torch.tensor([t]))
    with pytest.raises(ValueError, match=rf"^t must lie in 2\.\.5, got {t}\.\.{t}$"):
        x0 = grey_images(1)
        denoising_kl(SHORT, x0, x0, x0, torch.tensor([t]), SHORT.beta)


def test_times_of_the_wrong_form_are_refused(as_installed):
    x0 = grey_images(2)
    with pytest.raises(
        ValueError, match=r"^times must be an integer or a 1-D tensor of integers, got .* of shape \(1, 2\)$"
    ):
        elbo_terms(Estimate(), SHORT, x0, times=torch.tensor([[2, 3]]))
    with pytest.raises(ValueError, match=r"^times must be at least 1 draw from 2\.\.T, got 0 with T = 5$"):
        elbo_terms(Estimate(), SHORT, x0, times=0)
    with pytest.raises(ValueError, match=r"^times must be at least 1 draw from 2\.\.T, got 3 with T = 1$"):
        elbo_terms(Estimate(), Schedule.from_betas([0.4]), x0, times=3)


def test_a_distribution_without_a_number_of_draws_is_refused():
    distribution = importance_distribution(torch.ones(4))
    with pytest.raises(
        ValueError, match=r"^distribution says how to draw times: give times as a number of draws, got times = N"
    ):
        elbo_terms(Estimate(), SHORT, grey_images(2), distribution=distribution)


@pytest.mark.parametrize(
    "distribution",
    [
        [0, 0, 0.5, 0.5, 0.5, 0.5],  # sums to 2
        [0, 0.1, 0.2, 0.2, 0.2, 0.3],  # t = 1 is always there
        [0, 0, 0, 0.3, 0.3, 0.4],  # t = 2 would never be drawn
        [0, 0, 0.5, 0.5],  # too short
    ],
)
def test_a_distribution_that_is_none_is_refused(distribution):
    with pytest.raises(
        ValueError, match=r"^distribution must be T \+ 1 = 6 probabilities with sum 1: 0 at t = 0 and 1, and abov"
    ):
        elbo_terms(
            Estimate(), SHORT, grey_images(2), times=2, distribution=torch.tensor(distribution, dtype=torch.float64)
        )


def test_mean_squares_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"^mean_squares must hold a finite number >= 0 for each t = 2\.\.T$"):
        importance_distribution(torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match=r"^mean_squares must hold a finite number >= 0 for each t = 2\.\.T$"):
        importance_distribution(torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match=r"^mean_squares must not all be 0$"):
        importance_distribution(torch.zeros(3))
    with pytest.raises(ValueError, match=r"^uniform must lie in 0\.\.1, got 1\.5$"):
        importance_distribution(torch.ones(3), uniform=1.5)
    with pytest.raises(ValueError, match=r"^uniform must lie in 0\.\.1, got -0\.1$"):
        importance_distribution(torch.ones(3), uniform=-0.1)


def test_the_error_of_one_image_alone_is_refused():
    with pytest.raises(ValueError, match=r"^values must hold at least 2 images, got 1$"):
        mean_and_error(torch.ones(1))


def test_times_and_a_distribution_may_come_in_every_form(as_installed):
    def terms(**options):
        return elbo_terms(
            Estimate(), SHORT, grey_images(2), generator=torch.Generator().manual_seed(1), **options
        ).denoising

    for times in ([4, 2], (4, 2), np.array([2, 4])[::-1]):
        assert torch.equal(terms(times=times), terms(times=torch.tensor([4, 2])))
    assert torch.equal(terms(times=np.int64(3)), terms(times=3))
    p = [0, 0, 0.1, 0.2, 0.3, 0.4]
    for distribution in (p, tuple(p), np.array(p)):
        usual = terms(times=3, distribution=torch.tensor(p, dtype=torch.float64))
        assert torch.equal(terms(times=3, distribution=distribution), usual)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"x0": torch.zeros(2, 1, 2, 2).byte()},
            r"^x0 must hold floating-point numbers, got dtype torch\.uint8; bytes 0",
        ),
        ({"x0": torch.full((2, 1, 2, 2), math.nan)}, r"^x0 must hold finite numbers, found NaN or infinity$"),
        ({"x0": torch.zeros(4)}, r"^x0 must be a batch of images \(B, \.\.\.\), got shape \(4,\)$"),
        ({"times": 2.5}, r"^times must be an integer or a 1-D tensor of integers, got 2\.5$"),
        ({"times": "all"}, r"^times must be an integer or a 1-D tensor of integers, got 'all'$"),
        ({"times": 10**9}, r"^times must be an integer from 1 to 1000000, got 1000000000$"),
        ({"levels": 1}, r"^levels must be an integer from 2 to 65536, got 1$"),
        ({"levels": 2.5}, r"^levels must be an integer from 2 to 65536, got 2\.5$"),
        ({"clip": "yes"}, r"^clip must be True or False, got 'yes'$"),
        ({"generator": 3}, r"^generator must be a torch\.Generator or None, got 3$"),
        ({"y": [0.5, 1.0]}, r"^y must hold integers, a label for each image, got dtype float64$"),
        ({"y": [1, 2, 3]}, r"^y must hold one label for each image: got 3 labels for 2 images$"),
    ],
)
def test_arguments_that_are_none_are_refused_by_name(as_installed, options, expected):
    with pytest.raises(ValueError, match=expected):
        elbo_terms(Estimate(), SHORT, **{"x0": grey_images(2), **options})
