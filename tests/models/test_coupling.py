"""Coupling layers and RealNVP: determinants against Jacobians, round trips, mass, and what is refused."""

import math

import pytest
import torch

from diffnotes.models.coupling import LARGEST_SCALE, SMALLEST_STD, Coupling, RealNVP


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def stirred(model: RealNVP, generator: torch.Generator, size: float = 0.4) -> RealNVP:
    """The model in float64, all of its weights drawn by lot."""
    model = model.double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(size * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
        model.shift.copy_(torch.randn(model.shift.shape, generator=generator, dtype=torch.float64))
        model.scale.copy_(0.5 + torch.rand(model.scale.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize(
    ("shape", "margin"), [((2,), None), ((6,), None), ((1, 4, 4), None), ((1, 8, 4), 0.05), ((3, 4, 4), 0.1)]
)
def test_the_log_determinant_is_that_of_the_jacobian(generator, shape, margin):
    model = stirred(RealNVP(shape, layers=5, hidden=7, margin=margin), generator, 0.2)
    x = 1.9 * torch.rand(2, *shape, generator=generator, dtype=torch.float64) - 0.95
    z, log_det = model(x)
    assert z.shape == (2, math.prod(shape))
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda one: model(one[None])[0][0], x[i]).flatten(1)
        assert log_det[i].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), rel=1e-9)


@pytest.mark.parametrize(("shape", "margin"), [((2,), None), ((5,), None), ((1, 28, 28), 0.05)])
def test_there_and_back_in_float64_and_float32(generator, shape, margin):
    model = stirred(RealNVP(shape, layers=8, hidden=16, num_classes=3, margin=margin), generator, 0.05)
    x, y = 1.9 * torch.rand(4, *shape, generator=generator, dtype=torch.float64) - 0.95, torch.tensor([0, 2, 1, 1])
    assert (model.inverse(model(x, y)[0], y) - x).abs().max() < 1e-9
    model, x = model.float(), x.float()
    assert (model.inverse(model(x, y)[0], y) - x).abs().max() < 1e-3


def test_the_density_of_points_integrates_to_one(generator):
    """On a grid; with the sign of the determinant turned it would not."""
    model = stirred(RealNVP((2,), layers=4, hidden=8), generator, 0.25)
    side = torch.linspace(-14, 14, 561, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        z, log_det = model(grid)
        mass = model.log_prob(grid).exp().sum().item() * 0.05**2
        turned = (-0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - log_det).exp().sum().item() * 0.05**2
    assert mass == pytest.approx(1, abs=5e-3)
    assert abs(turned - 1) > 0.1


def test_samples_are_distributed_with_the_density(generator):
    """Means of functions of x over samples and over the grid agree."""
    model = stirred(RealNVP((2,), layers=4, hidden=8), generator, 0.25)
    with torch.no_grad():
        x = model.inverse(torch.randn(40_000, 2, generator=generator, dtype=torch.float64))
        side = torch.linspace(-14, 14, 281, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        weights = model.log_prob(grid).exp() * 0.1**2
    for function in (lambda p: p[:, 0], lambda p: torch.tanh(p[:, 1]), lambda p: torch.sin(p[:, 0] * p[:, 1])):
        draws = function(x)
        error = draws.std().item() / 200
        assert draws.mean().item() == pytest.approx((weights * function(grid)).sum().item(), abs=5 * error + 5e-3)


def test_a_new_model_is_the_scaling_alone(generator):
    model = RealNVP((3,), layers=4)
    data = 5 + torch.tensor([2.0, 1.0, 1e-4]) * torch.randn(5000, 3, generator=generator)
    model.set_scales(data)
    assert model.scale[2].item() == pytest.approx(SMALLEST_STD)
    z, log_det = model(data)
    torch.testing.assert_close(z[:, :2].mean(0), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(z[:, :2].std(0), torch.ones(2), rtol=1e-4, atol=0)
    torch.testing.assert_close(log_det, -model.scale.log().sum().expand(5000))


def test_every_coordinate_is_changed_by_some_layer_and_kept_by_another():
    for shape in ((2,), (5,), (1, 8, 8), (3, 4, 4)):
        keeps = torch.stack([layer.keep for layer in RealNVP(shape, layers=4).layers])
        assert bool(keeps.any(0).all()) and not bool(keeps.all(0).any())
        assert keeps.shape[1:] == RealNVP(shape, layers=4).shift.shape


def test_scales_stay_below_their_limit():
    layer = Coupling(torch.tensor([True, False]), _Constant(50.0))
    x = torch.zeros(3, 2)
    _, log_det = layer(x)
    torch.testing.assert_close(log_det, torch.full((3,), LARGEST_SCALE))


class _Constant(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, kept, y):
        return torch.full((len(kept), 2 * kept.shape[1]), self.value)


def test_settings_build_the_same_model_again(generator):
    model = stirred(RealNVP((1, 8, 8), layers=3, hidden=5, num_classes=4, margin=0.05), generator, 0.1)
    twin = RealNVP(**model.settings).double()
    twin.load_state_dict(model.state_dict())
    x, y = torch.zeros(2, 1, 8, 8, dtype=torch.float64), torch.tensor([3, 0])
    torch.testing.assert_close(twin.log_prob(x, y), model.log_prob(x, y))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": (1,)}, r"^shape must be \(d,\) with d >= 2, or \(C, H, W\), got \(1,\)$"),
        ({"shape": (1, 28)}, r"^shape must be \(d,\) with d >= 2, or \(C, H, W\), got \(1, 28\)$"),
        ({"shape": (1, 6, 8)}, r"^shape must have height and width divisible by 4, got \(1, 6, 8\)$"),
        ({"layers": 0}, r"^layers must be at least 1, got 0$"),
        ({"hidden": 0}, r"^hidden must be at least 1, got 0$"),
        ({"num_classes": 0}, r"^num_classes must be at least 1, or None for no labels, got 0$"),
        ({"margin": 0.5}, r"^margin must lie in \[0\.005, 0\.5\), or be None, got 0\.5$"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        RealNVP(**({"shape": (2,)} | given))


def test_labels_are_asked_for_where_they_belong():
    with pytest.raises(ValueError, match=r"^y must be given where num_classes is, and only there, got y = None"):
        RealNVP((2,), num_classes=3).log_prob(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"^y must be given where num_classes is, and only there, got y = 1"):
        RealNVP((2,)).log_prob(torch.zeros(2, 2), 1)
    with pytest.raises(ValueError, match=r"^y must hold labels 0\.\.2, got 0\.\.3$"):
        RealNVP((2,), num_classes=3).log_prob(torch.zeros(2, 2), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"^x must have shape \(B, 2\), got \(2, 3\)$"):
        RealNVP((2,)).log_prob(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"^keep must be a bool tensor that is True for some coordinates"):
        Coupling(torch.tensor([True, True]), _Constant(0.0))
