import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffnotes.process.losses import bound_weight, min_snr_weight, simple_loss, weighted_loss
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()
TIMES = [1, 17, 500, 1000]


class Fake:
    """A network whose prediction mixes x_t, t and y, so that a swapped argument shows."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __call__(self, x_t, t, y=None):
        shift = t.double() / 1000 + (0 if y is None else 0.1 * y.double())
        return 0.3 * x_t + shift.reshape(-1, 1, 1, 1)


class Line:
    """A network with one weight, whose prediction is weight * x_t."""

    target = "eps"

    def __init__(self, weight: float) -> None:
        self.weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)

    def __call__(self, x_t, t, y=None):
        return self.weight * x_t


def batch(generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Four images and their noises, float64."""
    return torch.randn(2, 4, 1, 3, 2, generator=generator, dtype=torch.float64).unbind(0)


def losses_by_hand(linear_tables, target, x0, eps, y):
    """F.mse_loss of each image alone, from the loop's tables."""
    losses, y = [], [int(label) for label in y]
    for i, t in enumerate(TIMES):
        a, b = math.sqrt(linear_tables[1][t]), math.sqrt(1 - linear_tables[1][t])
        prediction = 0.3 * (a * x0[i] + b * eps[i]) + t / 1000 + 0.1 * y[i]
        target_value = {"eps": eps[i], "x0": x0[i], "v": a * eps[i] - b * x0[i], "u": eps[i] - x0[i]}[target]
        losses.append(F.mse_loss(prediction, target_value).item())
    return losses


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_simple_loss_is_torchs_mse_of_each_image(generator, linear_tables, target):
    x0, eps = batch(generator)
    y = torch.tensor([3, 0, 1, 2])
    ours = simple_loss(Fake(target), LINEAR, x0, torch.tensor(TIMES), eps, y).numpy()
    np.testing.assert_allclose(ours, losses_by_hand(linear_tables, target, x0, eps, y), rtol=1e-10)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_simple_loss_without_labels_shows_the_network_none(generator, linear_tables, target):
    x0, eps = batch(generator)
    ours = simple_loss(Fake(target), LINEAR, x0, torch.tensor(TIMES), eps).numpy()
    np.testing.assert_allclose(ours, losses_by_hand(linear_tables, target, x0, eps, [0] * 4), rtol=1e-10)


def test_simple_loss_of_the_prediction_0_is_the_mean_square_of_the_noise(generator):
    x0, eps = batch(generator)
    ours = simple_loss(Line(0.0), LINEAR, x0, torch.tensor(TIMES), eps).detach().numpy()
    np.testing.assert_allclose(ours, [(e**2).mean().item() for e in eps], rtol=1e-12)


def test_simple_loss_has_the_gradient_of_the_mean_square(generator):
    x0, eps = batch(generator)
    model = Line(0.3)
    simple_loss(model, LINEAR, x0, torch.tensor([500] * 4), eps).sum().backward()
    a, b = LINEAR.alpha_bar[500].sqrt(), (1 - LINEAR.alpha_bar[500]).sqrt()
    x_t = a * x0 + b * eps
    expected = (2 * (0.3 * x_t - eps) * x_t).flatten(1).mean(1).sum()
    assert model.weight.grad.item() == pytest.approx(expected.item(), rel=1e-10)


def test_weighted_loss_multiplies_each_image_by_its_weight(generator, linear_tables):
    x0, eps = batch(generator)
    y = torch.tensor([3, 0, 1, 2])

    def weight(schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
        return t.double() / schedule.T

    ours = weighted_loss(weight, Fake("v"), LINEAR, x0, torch.tensor(TIMES), eps, y).numpy()
    expected = np.array(TIMES) / 1000 * losses_by_hand(linear_tables, "v", x0, eps, y)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_bound_weight_is_its_formula(linear_tables):
    beta, alpha_bar = linear_tables
    expected = [beta[t] / (2 * (1 - beta[t]) * (1 - alpha_bar[t])) for t in range(1, 1001)]
    np.testing.assert_allclose(bound_weight(LINEAR, torch.arange(1, 1001)).numpy(), expected, rtol=1e-9)


def test_bound_weight_of_the_linear_schedule_has_the_numbers_of_the_book():
    weight = bound_weight(LINEAR, torch.arange(1, 1001))
    assert weight[0].item() == pytest.approx(0.50, abs=5e-3)
    assert weight.min().item() == pytest.approx(0.0050, abs=5e-5)
    assert weight.argmin().item() + 1 == 349
    assert weight[-1].item() == pytest.approx(0.0102, abs=5e-5)


@pytest.mark.parametrize("t", [2, 350, 1000])
def test_bound_weight_turns_the_error_in_eps_into_the_kl_of_one_step(linear_tables, t):
    """(mean - mean_hat)^2 / (2 beta_t), both means from the posterior formula, is weight * (eps - eps_hat)^2."""
    beta, alpha_bar = linear_tables[0][t], linear_tables[1][t]
    x_t, eps, eps_hat = 0.4, -1.3, 0.2

    def mean(noise: float) -> float:  # Ho et al. 2020, eq. 7, at the x_0 that this noise stands for
        x0 = (x_t - math.sqrt(1 - alpha_bar) * noise) / math.sqrt(alpha_bar)
        before = linear_tables[1][t - 1]
        return (math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * x_t) / (1 - alpha_bar)

    expected = (mean(eps) - mean(eps_hat)) ** 2 / (2 * beta)
    assert bound_weight(LINEAR, torch.tensor([t])).item() * (eps - eps_hat) ** 2 == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weight_is_its_formula(linear_tables, gamma):
    alpha_bar = linear_tables[1][1:]
    snr = alpha_bar / (1 - alpha_bar)
    ours = min_snr_weight(LINEAR, torch.arange(1, 1001), gamma).numpy()
    np.testing.assert_allclose(ours, np.minimum(snr, gamma) / snr, rtol=1e-9)


def test_min_snr_weight_has_gamma_5_unless_told_otherwise(linear_tables):
    snr = linear_tables[1][1] / (1 - linear_tables[1][1])
    assert min_snr_weight(LINEAR, torch.tensor([1])).item() == pytest.approx(5 / snr, rel=1e-9)


def test_min_snr_weight_is_1_in_pure_noise():
    # SNR(T) = 0, and min(SNR, gamma) / SNR is 1 for every SNR below gamma
    assert min_snr_weight(LINEAR.rescale_zero_terminal_snr(), torch.tensor([1000])).item() == 1


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_min_snr_weight_weighs_the_same_estimate_alike_for_every_target(linear_tables, target):
    """The same estimate as eps, as x0, as v and as u: weight times squared error is min(SNR, gamma) |x0 - x0_hat|^2."""
    t = torch.tensor([1, 300, 700, 1000])
    a, b = (torch.tensor(values[t.numpy()]) for values in (linear_tables[1] ** 0.5, (1 - linear_tables[1]) ** 0.5))
    x0, eps, x0_hat = torch.tensor([0.3, -0.9, 1.0, 0.1]).double(), torch.tensor([1.2, 0.4, -0.7, 2.0]).double(), 0.55
    x_t = a * x0 + b * eps
    eps_hat = (x_t - a * x0_hat) / b
    error = {
        "eps": eps - eps_hat,
        "x0": x0 - x0_hat,
        "v": (a * eps - b * x0) - (a * eps_hat - b * x0_hat),
        "u": (eps - x0) - (eps_hat - x0_hat),
    }[target]
    expected = torch.clamp(a**2 / b**2, max=5) * (x0 - x0_hat) ** 2
    torch.testing.assert_close(min_snr_weight(LINEAR, t, target=target) * error**2, expected, rtol=1e-9, atol=0)


def test_min_snr_weight_has_four_targets():
    with pytest.raises(ValueError, match=r'^target must be one of "eps", "x0", "v", "u", got \'noise\'$'):
        min_snr_weight(LINEAR, torch.tensor([1]), target="noise")


@pytest.mark.parametrize("weight", [bound_weight, min_snr_weight], ids=["bound", "min_snr"])
@pytest.mark.parametrize("t", [-1, 0, 1001])
def test_weights_refuse_times_outside_the_schedule(weight, t):
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        weight(LINEAR, torch.tensor([t]))


def test_unknown_target_of_the_network_is_refused(generator):
    x0, eps = batch(generator)
    with pytest.raises(ValueError, match=r'model.target is "eps", "x0", "v" or "u"; got Fake with target \'noise\'\.'):
        simple_loss(Fake("noise"), LINEAR, x0, torch.tensor(TIMES), eps)


def test_a_foreign_network_is_refused_with_the_way_out(as_installed, generator):
    x0, eps = batch(generator)

    class Output:
        sample = x0

    class Foreign(Fake):
        def __call__(self, x_t, t, y=None):
            return Output()

    with pytest.raises(
        ValueError, match=r"^model must give a tensor of x_t's shape .*, got Output\. A network of diffusers "
    ):
        simple_loss(Foreign("eps"), LINEAR, x0, TIMES, eps)
    with pytest.raises(
        ValueError, match=r"^model must be called as .*; got Linear without target\. .*: see process/adapters\.py$"
    ):
        simple_loss(torch.nn.Linear(2, 2), LINEAR, x0, TIMES, eps)


def test_times_and_labels_in_every_form_give_the_same_loss(as_installed, generator):
    x0, eps = batch(generator)
    usual = simple_loss(Fake("v"), LINEAR, x0, torch.tensor(TIMES), eps, torch.tensor([3, 0, 7, 3]))
    for t, y in (
        (TIMES, [3, 0, 7, 3]),
        (np.array(TIMES), np.array([3, 0, 7, 3])),
        (tuple(TIMES), torch.tensor([3, 0, 7, 3]).byte()),
    ):
        assert torch.equal(simple_loss(Fake("v"), LINEAR, x0, t, eps, y), usual)
    one = simple_loss(Fake("v"), LINEAR, x0, torch.tensor([500] * 4), eps, torch.tensor([3] * 4))
    assert torch.equal(simple_loss(Fake("v"), LINEAR, x0, 500, eps, 3), one)


def test_a_weight_that_is_none_is_refused(as_installed, generator):
    x0, eps = batch(generator)
    with pytest.raises(
        ValueError, match=r"^weight must be a function that can be called as weight\(schedule, t\), got 2$"
    ):
        weighted_loss(2, Fake("eps"), LINEAR, x0, TIMES, eps)
    with pytest.raises(ValueError, match=r"^weight must give a tensor with one number for each image, got 2\.0$"):
        weighted_loss(lambda schedule, t: 2.0, Fake("eps"), LINEAR, x0, TIMES, eps)
    with pytest.raises(ValueError, match=r"^gamma must be positive, got nan$"):
        min_snr_weight(LINEAR, 5, math.nan)
