"""The bound and the sampler of a chain of few strides: against chapter 3's bound, other samplers and closed forms."""

import math

import pytest
import torch

from diffnotes.models.grey import GreyDenoiser, GreyHead
from diffnotes.models.unet import UNet
from diffnotes.process.elbo import elbo_terms
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.samplers import ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.strides import stride_variances, strided_elbo, strided_sample
from diffnotes.process.variance import optimal_variance

SHORT = Schedule.linear(T=20, beta_1=0.02, beta_T=0.4)
COSINE = Schedule.cosine()


def grey(number: int = 500, std: float = 0.5, seed: int = 0) -> torch.Tensor:
    x = std * torch.randn(number, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture(scope="module")
def denoiser() -> GreyDenoiser:
    """Random weights: what it says is wrong, and consistent."""
    torch.manual_seed(0)
    head = GreyHead(features=8, width=8, blocks=1)
    torch.nn.init.normal_(head.last.weight, std=0.2)
    unet = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=2, num_classes=10, target="v")
    torch.nn.init.normal_(unet.last.weight, std=0.05)
    return GreyDenoiser(unet, head, COSINE.alpha_bar).eval().requires_grad_(False)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_with_every_step_it_is_the_bound_of_chapter_3(variance):
    model, x0 = GaussianDenoiser(SHORT, variance=0.25), grey(3000)
    one = elbo_terms(model, SHORT, x0, variance=variance, generator=seeded(10))
    two = strided_elbo(model, SHORT, x0, steps=20, variance=variance, generator=seeded(11))
    assert torch.equal(two.times[:, 0], torch.arange(2, 21))
    torch.testing.assert_close(one.prior, two.prior)
    error = (one.denoising.var(1) + two.denoising.var(1)).div(3000).sqrt()
    assert bool(((one.denoising.mean(1) - two.denoising.mean(1)).abs() < 5 * error).all())
    error = math.sqrt((one.reconstruction.var() + two.reconstruction.var()) / 3000)
    assert (one.reconstruction.mean() - two.reconstruction.mean()).abs() < 5 * error


def test_for_gaussian_data_the_optimal_variance_closes_the_gap_and_the_others_do_not():
    """The strides of the true chain have the cost I(x_0; x_tau) - I(x_0; x_T), in whatever number of steps."""
    v, d, x0 = 0.0625, 16, grey(6000, std=0.25, seed=3)  # hardly a value is cut off at 1
    model, times = GaussianDenoiser(COSINE, variance=v), [1000, 600, 300, 100]
    tau = torch.tensor([0, *times[::-1]])
    bar = COSINE.alpha_bar[tau[1:]]
    mse = v * (1 - bar) / (bar * v + 1 - bar)
    table = torch.cat(
        [torch.zeros(1).double(), torch.tensor([0.01]).double(), optimal_variance(COSINE, mse[1:], tau[2:], tau[1:-1])]
    )
    information = [d * math.log(v * COSINE.snr[t].item() + 1) / 2 for t in (100, 1000)]
    gaps = {}
    for name, kind in (("best", table), ("beta", "beta"), ("beta_tilde", "beta_tilde")):
        found = strided_elbo(model, COSINE, x0, times=times, variance=kind, generator=seeded(4))
        gaps[name] = found.denoising.sum(0).mean().item() - (information[0] - information[1])
    assert abs(gaps["best"]) < 0.15 < 0.5 < min(gaps["beta"], gaps["beta_tilde"]), gaps


def test_the_table_of_variances():
    found = stride_variances(COSINE, [0, 40, 80, 1000])
    bar = COSINE.alpha_bar
    last = (1 - bar[80]) / (1 - bar[1000]) * (1 - bar[1000] / bar[80])
    assert found[3].item() == pytest.approx(last.item(), rel=1e-9) and found[1] == found[2]
    found = stride_variances(COSINE, [0, 40, 80, 1000], "beta")
    assert found[1].item() == pytest.approx(1 - bar[40].item(), rel=1e-9)


def test_a_decoder_with_another_variance_changes_the_last_term_alone():
    model, x0 = GaussianDenoiser(COSINE, variance=0.25), grey(50)
    one = strided_elbo(model, COSINE, x0, steps=5, generator=seeded(0))
    two = strided_elbo(model, COSINE, x0, steps=5, decoder=0.02, generator=seeded(0))
    assert torch.equal(one.denoising, two.denoising) and not torch.equal(one.reconstruction, two.reconstruction)


def test_learned_with_a_known_error_is_the_table_with_that_error():
    class Sure(GaussianDenoiser):
        def moments(self, x_t, t, y=None):
            return self(x_t, t), torch.full_like(x_t, 0.07).double()

    model, x0 = Sure(COSINE, variance=0.25), grey(30)
    tau = COSINE.subsequence(5)
    best = optimal_variance(COSINE, 0.07, tau[2:], tau[1:-1])
    table = torch.cat([stride_variances(COSINE, tau.tolist())[:2], best])
    one = strided_elbo(model, COSINE, x0, steps=5, variance="learned", generator=seeded(0))
    two = strided_elbo(model, COSINE, x0, steps=5, variance=table, generator=seeded(0))
    torch.testing.assert_close(one.denoising, two.denoising)
    torch.testing.assert_close(one.reconstruction, two.reconstruction)


def test_the_mixture_is_charged_as_much_as_its_density_says(denoiser):
    """One pixel by itself: the mean over many draws of x_s against a sum over a fine grid."""
    x0 = grey(1).float().expand(1, 1, 4, 4)
    x_t = torch.randn(1, 1, 4, 4, generator=seeded(2))
    from diffnotes.process import strides

    draws = torch.stack(
        [
            strides._mixture_kl(denoiser, COSINE, x0.double(), x_t.double(), torch.float32, 120, 80, None, seeded(i))
            for i in range(400)
        ]
    )
    mixture, _ = denoiser.mixture(x_t, 120)
    _, narrow, c = strides.stride(COSINE, 120, 80)
    mean, _ = strides.q_posterior(COSINE, x0.double(), x_t.double(), 120, 80)
    z = torch.linspace(-7, 7, 2001).double()
    weight = torch.exp(-(z**2) / 2) / torch.exp(-(z**2) / 2).sum()
    log_p = [mixture.moved(mean - c * x0, c, narrow).log_density(mean + narrow.sqrt() * one) for one in z]
    log_q = -(z**2) / 2 - math.log(2 * math.pi * narrow.item()) / 2
    exact = ((log_q[:, None] - torch.stack(log_p).flatten(1)) * weight[:, None]).sum()
    assert abs(draws.mean().item() - exact.item()) < 5 * draws.std().item() / 20


def test_simple_variances_draw_what_ddpm_draws():
    unet = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=2, num_classes=10, target="v").eval()
    x_T = initial_noise(0, 3)
    for variance in ("beta", "beta_tilde"):
        for mine, theirs in zip(
            strided_sample(unet, COSINE, x_T, steps=6, variance=variance, generator=1),
            ddpm_sample(unet, COSINE, x_T, steps=6, variance=variance, generator=1),
            strict=True,
        ):
            assert mine.t == theirs.t
            torch.testing.assert_close(mine.x_t, theirs.x_t, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(mine.eps_hat, theirs.eps_hat, atol=1e-4, rtol=1e-3)


def test_with_the_optimal_variance_gaussian_data_keep_their_variance():
    v, times = 0.25, [1000, 500, 200, 50]
    model, tau = GaussianDenoiser(COSINE, variance=v), torch.tensor([0, 50, 200, 500, 1000])
    bar = COSINE.alpha_bar[tau[1:]]
    mse = v * (1 - bar) / (bar * v + 1 - bar)
    table = torch.cat([torch.zeros(1).double(), mse[:1], optimal_variance(COSINE, mse[1:], tau[2:], tau[1:-1])])
    x_T = torch.randn(200_000, 1, generator=seeded(0), dtype=torch.float64)
    *_, before, last = strided_sample(model, COSINE, x_T, times=times, variance=table, generator=seeded(1))
    v_50 = (COSINE.alpha_bar[50] * v + 1 - COSINE.alpha_bar[50]).item()
    assert before.x_t.var().item() == pytest.approx(v_50, rel=0.02) and last.t == 0


def test_the_ends_and_the_mixture_of_a_sampler(denoiser):
    x_T = initial_noise(0, 2)
    *_, mean = strided_sample(denoiser, COSINE, x_T, steps=4, variance="learned", generator=1)
    *_, drawn = strided_sample(denoiser, COSINE, x_T, steps=4, variance="learned", end="draw", generator=1)
    values = (drawn.x_t.double() + 1) * 127.5
    assert (values - values.round()).abs().max() < 1e-4 and not torch.equal(mean.x_t, drawn.x_t)
    frames = list(strided_sample(denoiser, COSINE, x_T, steps=4, variance="mixture", generator=1))
    assert [frame.t for frame in frames] == [1000, 750, 500, 250, 0]
    alone = list(strided_sample(denoiser, COSINE, x_T[:1], steps=4, variance="mixture", generator=1))
    torch.testing.assert_close(frames[-1].x_t[:1], alone[-1].x_t, atol=1e-5, rtol=1e-5)  # whatever the batch


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variance": "learned"}, "model must have .moments for this, as models/grey.py has, got GaussianDenoiser"),
        ({"variance": "mixture"}, "model must have .mixture for this"),
        ({"decoder": "grey"}, "model must have .log_probability for this"),
        ({"decoder": -1.0}, 'decoder must be "grey" or a positive variance, got -1.0'),
        ({"variance": "wide"}, 'variance must be "beta" or "beta_tilde", got \'wide\''),
        ({"variance": torch.ones(3)}, r"variance must hold S \+ 1 = 6 numbers, positive from entry 1 on"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        strided_elbo(GaussianDenoiser(COSINE), COSINE, grey(2, seed=5), steps=5, **wrong)
