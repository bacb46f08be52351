"""A distribution over grey values for every pixel: Bayes' rule on a grid, probabilities that add to 1, and what is frozen."""

import pytest
import torch

from diffnotes.models.grey import GreyDenoiser, GreyHead, GreyMixture, posterior_mixture
from diffnotes.models.unet import UNet
from diffnotes.process.parameterize import x0_and_eps
from diffnotes.process.schedules import Schedule

COSINE = Schedule.cosine()
GREYS = torch.linspace(-1, 1, 256, dtype=torch.float64)


def four(std: float = 1e-3) -> tuple[torch.Tensor, ...]:
    """A mixture of four for one pixel: black, white (as narrow Gaussians, or points) and two more."""
    weight, mean = torch.tensor([0.4, 0.1, 0.3, 0.2]).double(), torch.tensor([-1, 1, 0.3, -0.5]).double()
    deviation = torch.tensor([std, std, 0.1, 0.4]).double()
    return tuple(value[:, None, None, None, None] for value in (weight.log(), mean, deviation))


def denoiser(target: str = "v", keep_mean: bool = True, seed: int = 0) -> GreyDenoiser:
    torch.manual_seed(seed)
    head = GreyHead(features=8, width=8, blocks=1)
    torch.nn.init.normal_(head.last.weight, std=0.3)
    unet = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=2, num_classes=10, target=target)
    torch.nn.init.normal_(unet.last.weight, std=0.05)
    return GreyDenoiser(unet, head, COSINE.alpha_bar, keep_mean).eval()


@pytest.mark.parametrize("t", [40, 300, 900])
@pytest.mark.parametrize("x_t", [-0.9, 0.1, 1.3])
def test_the_posterior_is_bayes_rule_on_a_grid(t, x_t):
    bar = COSINE.alpha_bar[t]
    found = posterior_mixture(*four(), torch.full((1, 1, 1, 1), x_t), bar[None])
    x0 = torch.linspace(-4, 4, 800_001, dtype=torch.float64)
    weight, mean, std = (value.flatten()[:, None] for value in four())
    density = (weight.exp() / std * torch.exp(-((x0 - mean) ** 2) / (2 * std**2))).sum(0)
    density = density * torch.exp(-((torch.tensor(x_t).double() - bar.sqrt() * x0) ** 2) / (2 * (1 - bar)))
    density = density / density.sum()
    first = (density * x0).sum()
    mean_found, variance_found = found.moments()
    assert mean_found.item() == pytest.approx(first.item(), abs=1e-6)
    assert variance_found.item() == pytest.approx((density * (x0 - first) ** 2).sum().item(), rel=1e-4)


def test_the_probabilities_of_the_256_values_add_up_to_1_and_points_count_at_the_ends_only():
    found = posterior_mixture(
        *(part.expand(-1, 3, -1, -1, -1) for part in four(std=0.0)),
        torch.tensor([-0.95, 0.2, 1.1])[:, None, None, None],
        COSINE.alpha_bar[[40] * 3],
    )
    every = torch.stack([found.log_probability(torch.full((3, 1, 1, 1), v)).exp() for v in GREYS])
    torch.testing.assert_close(every.sum(0), torch.ones(3, 1, 1, 1).double(), atol=1e-6, rtol=0)
    points = found.log_weight.exp()[:2].reshape(2, 3)
    inner = GreyMixture(found.log_weight[2:], found.mean[2:], found.variance[2:])
    for end, value in ((0, -1.0), (1, 1.0)):
        edge = torch.full((3, 1, 1, 1), value).double()
        bound = value - value / 255
        gaussian = torch.distributions.Normal(inner.mean, inner.variance.sqrt()).cdf(torch.tensor(bound))
        tail = (inner.log_weight.exp() * (gaussian if end == 0 else 1 - gaussian)).sum(0).flatten()
        torch.testing.assert_close(
            found.log_probability(edge).exp().flatten(), points[end] + tail, atol=1e-9, rtol=1e-6
        )


def test_a_probability_far_out_in_the_tail_is_finite_and_keeps_its_digits():
    from scipy.stats import norm

    mixture = GreyMixture(
        *(
            torch.tensor(v).double()[:, None, None, None, None]
            for v in ([-99.0, -99.0, 0.0], [-1.0, 1, 0.5], [0, 0, 1e-4])
        )
    )
    value = torch.tensor(GREYS[60].item()).double().reshape(1, 1, 1, 1)
    sd, x = 0.01, GREYS[60].item()
    exact = (
        norm.logcdf((x + 1 / 255 - 0.5) / sd)
        + torch.log1p(
            -torch.exp(torch.tensor(norm.logcdf((x - 1 / 255 - 0.5) / sd) - norm.logcdf((x + 1 / 255 - 0.5) / sd)))
        ).item()
    )
    assert mixture.log_probability(value).item() == pytest.approx(exact, rel=1e-6)


def test_the_moments_of_a_moved_mixture_and_its_density():
    found = posterior_mixture(*four(std=0.0), torch.full((1, 1, 1, 1), 0.3), COSINE.alpha_bar[[300]])
    moved = found.moved(torch.tensor(0.2), torch.tensor(0.7), torch.tensor(0.05))
    (mean, variance), (new_mean, new_variance) = found.moments(), moved.moments()
    torch.testing.assert_close(new_mean, 0.2 + 0.7 * mean, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(new_variance, 0.05 + 0.49 * variance, atol=1e-7, rtol=1e-6)
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    density = moved.log_density(x[:, None, None, None]).exp().flatten()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-6)
    assert torch.trapezoid(density * x, x).item() == pytest.approx(new_mean.item(), abs=1e-6)


def test_draws_have_the_probabilities():
    found = posterior_mixture(*four(std=0.0), torch.full((1, 1, 1, 1), 0.5), COSINE.alpha_bar[[500]])
    many = GreyMixture(
        *(value.expand(-1, 40_000, -1, -1, -1) for value in (found.log_weight, found.mean, found.variance))
    )
    g = torch.Generator().manual_seed(0)
    drawn = many.draw(*(torch.randn(40_000, 1, 1, 1, generator=g) for _ in range(2))).flatten()
    assert (((drawn + 1) * 127.5) - ((drawn + 1) * 127.5).round()).abs().max() < 1e-9
    for value in (-1.0, 1.0, GREYS[160].item()):
        p = found.log_probability(torch.full((1, 1, 1, 1), value)).exp().item()
        share = ((drawn - value).abs() < 1e-6).double().mean().item()
        assert abs(share - p) < 5 * (p * (1 - p) / 40_000) ** 0.5 + 1e-4


@pytest.mark.parametrize("target", ["v", "x0", "eps"])
def test_the_prediction_is_the_networks_own(target):
    model, x_t, y = denoiser(target), torch.randn(3, 1, 8, 8), torch.tensor([0, 3, 10])
    t = torch.tensor([40, 300, 800])
    with torch.no_grad():
        expected, _ = x0_and_eps(COSINE, target, model.unet(x_t, t, y).double(), x_t.double(), t)
        mean, square = model.moments(x_t, t, y)
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model(x_t, t, y), expected.float(), atol=1e-5, rtol=1e-4)
        own, variance = denoiser(target, keep_mean=False).moments(x_t, t, y)
    torch.testing.assert_close(square, variance + (own - mean) ** 2)


def test_only_the_head_is_trained():
    model = denoiser().train()
    assert model.head.training and not model.unet.training
    x0 = ((torch.rand(2, 1, 8, 8) * 255).round() / 127.5) - 1
    (-model.log_probability(x0, torch.randn(2, 1, 8, 8), 40)).sum().backward()
    assert all(p.grad is None for p in model.unet.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())


def test_the_shipped_head_was_trained_on_the_network_that_ships():
    from diffnotes.training import checkpoint
    from diffnotes.training.pretrained import GREY
    from diffnotes.training.train_grey import unet_digest

    _, metadata = checkpoint.read(GREY)
    assert metadata["unet"] == unet_digest(), "train the head anew: python -m diffnotes.training.train_grey"
    assert GREY.stat().st_size < 2_000_000


def test_the_shipped_head_is_there_and_calibrated(mnist_test):
    from diffnotes.process.forward import q_sample
    from diffnotes.training.pretrained import load_grey

    model, schedule = load_grey()
    assert not model.training and schedule.T == 1000
    x0 = mnist_test.x[:64]
    for t in (40, 120, 240):
        x_t = q_sample(schedule, x0, t, torch.randn(x0.shape, generator=torch.Generator().manual_seed(t)))
        mean, square = model.moments(x_t, t)
        assert square.mean().item() == pytest.approx((mean - x0).square().mean().item(), rel=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GreyHead(gaussians=0), "gaussians must be at least 1, got 0"),
        (
            lambda: GreyDenoiser(UNet(8), GreyHead(8, patch=2), COSINE.alpha_bar),
            "head must be made for 8 features and patches of 1",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
