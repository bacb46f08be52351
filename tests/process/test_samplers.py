import dataclasses
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from diffnotes.process.exact import DatasetDenoiser, GaussianDenoiser
from diffnotes.process.forward import q_sample
from diffnotes.process.samplers import (
    Noise,
    ddim_invert,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    ddpm_sample,
    ddpm_step,
    initial_noise,
    predict,
)
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()
UNIT = GaussianDenoiser(LINEAR)  # the perfect denoiser of data N(0, 1)
STEPS = [1, 2, 3, 7, 30, 300, 600, 999, 1000]
PAIRS = [(1, 0), (2, 1), (500, 499), (1000, 999), (20, 0), (30, 20), (500, 100), (1000, 900), (1000, 0)]
SAMPLERS = [ddpm_sample, ddim_sample]


def column(*values: float) -> torch.Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def times(S: int, T: int = 1000) -> list[int]:
    """round(i T / S), half up."""
    return [math.floor(i * T / S + 0.5) for i in range(S + 1)]


def steps_down(S: int) -> list[tuple[int, int]]:
    """The pairs (t, s) of a run in S steps, from T to 0."""
    tau = times(S)
    return list(zip(tau[:0:-1], tau[-2::-1], strict=True))


def ddim_factor(abar_t: float, abar_s: float, variance: float = 1.0) -> float:
    """By what one DDIM step (eta = 0) with the perfect denoiser of data N(0, variance) multiplies x_t."""
    spread = abar_t * variance + 1 - abar_t
    return (math.sqrt(abar_t * abar_s) * variance + math.sqrt((1 - abar_t) * (1 - abar_s))) / spread


def ode_factor(abar_t: float, abar_s: float, variance: float) -> float:
    """By what the probability-flow ODE of data N(0, variance) multiplies x_t: the ratio of the standard deviations."""
    return math.sqrt((abar_s * variance + 1 - abar_s) / (abar_t * variance + 1 - abar_t))


class Constant:
    """A network that predicts the same number for every pixel."""

    def __init__(self, target: str, prediction: float) -> None:
        self.target, self.prediction = target, prediction

    def __call__(self, x_t, t, y=None):
        return torch.full_like(x_t, self.prediction)


class Recorder:
    """Passes every call on to a model and remembers the times, the labels and the predictions."""

    def __init__(self, model, target: str = "x0") -> None:
        self.model, self.target, self.calls = model, target, []

    def __call__(self, x_t, t, y=None):
        prediction = self.model(x_t, t, y)
        self.calls.append((t.tolist(), y, prediction))
        return prediction


# -- one DDPM step --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_ddpm_step_is_its_formula(linear_tables, t, s, variance):
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    alpha, x0_hat, x_t, noise = abar_t / abar_s, 0.6, -0.4, 1.7
    mean = (
        math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t) * x_t + math.sqrt(abar_s) * (1 - alpha) / (1 - abar_t) * x0_hat
    )
    sigma_square = {"beta": (1 - alpha) * (s > 0), "beta_tilde": (1 - abar_s) / (1 - abar_t) * (1 - alpha)}[variance]
    ours = ddpm_step(LINEAR, column(x0_hat), column(x_t), t, s, column(noise), variance).item()
    assert ours == pytest.approx(mean + math.sqrt(sigma_square) * noise, rel=1e-10)


def test_ddpm_step_goes_to_the_time_before_with_beta_tilde_unless_told_otherwise():
    x0_hat, x_t, noise = column(0.6), column(-0.4), column(1.7)
    spelled_out = ddpm_step(LINEAR, x0_hat, x_t, 300, 299, noise, "beta_tilde")
    assert torch.equal(ddpm_step(LINEAR, x0_hat, x_t, 300, None, noise), spelled_out)


@pytest.mark.parametrize("S", STEPS)
def test_strided_ddpm_with_beta_keeps_the_variance_of_unit_data_at_1(linear_tables, S):
    variance = 1.0
    for t, s in steps_down(S):
        x_t, noise = column(1.0, 0.0), column(0.0, 1.0)  # x_s is linear in x_t and the noise: feed each alone
        x0_hat = math.sqrt(linear_tables[1][t]) * x_t
        from_x_t, from_noise = ddpm_step(LINEAR, x0_hat, x_t, t, s, noise, "beta").flatten().tolist()
        variance = from_x_t**2 * variance + from_noise**2
        # the last step adds no noise: what is left is the variance of E[x_0 | x_t]
        assert variance == pytest.approx(1 if s > 0 else linear_tables[1][t], rel=1e-9)


@pytest.mark.parametrize("S", [3, 30])
def test_ddpm_samples_with_beta_have_variance_1_at_every_time(linear_tables, generator, S):
    n = 20_000
    x_T = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    for frame in ddpm_sample(UNIT, LINEAR, x_T, steps=S, variance="beta", generator=generator):
        expected = 1 if frame.t > 0 else linear_tables[1][times(S)[1]]
        assert abs(frame.x_t.mean().item()) < 5 * math.sqrt(expected / n)
        assert abs(frame.x_t.var().item() - expected) < 5 * expected * math.sqrt(2 / n)


@pytest.mark.parametrize("S", [7, 60])
def test_ddpm_with_beta_tilde_ends_with_the_variance_of_the_recursion(linear_tables, generator, S):
    variance, n = 1.0, 20_000
    for t, s in steps_down(S):
        abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
        variance = abar_t / abar_s * variance + (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
    x_T = torch.randn(n, 1, generator=generator)
    *_, last = ddpm_sample(UNIT, LINEAR, x_T, steps=S, variance="beta_tilde", generator=generator)
    assert abs(last.x_t.var().item() - variance) < 5 * variance * math.sqrt(2 / n)


# -- one DDIM step, and the whole way -------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_ddim_step_is_its_formula(linear_tables, t, s, eta):
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    x0_hat, eps_hat, noise = 0.6, -1.3, 1.7
    sigma = eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    expected = math.sqrt(abar_s) * x0_hat + math.sqrt(1 - abar_s - sigma**2) * eps_hat + sigma * noise
    ours = ddim_step(LINEAR, column(x0_hat), column(eps_hat), t, s, column(noise), eta).item()
    assert ours == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_one_ddim_step_multiplies_gaussian_data_by_the_closed_form_factor(linear_tables, t, s):
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    x0_hat, eps_hat = predict(UNIT, LINEAR, column(0.8), t)
    ours = ddim_step(LINEAR, x0_hat, eps_hat, t, s, column(9.0)).item()
    expected = math.sqrt(abar_t * abar_s) + math.sqrt((1 - abar_t) * (1 - abar_s))
    assert ours == pytest.approx(0.8 * expected, rel=1e-10)


@pytest.mark.parametrize("S", STEPS)
def test_ddim_run_multiplies_gaussian_data_by_the_product_of_the_factors(linear_tables, S):
    factor = math.prod(ddim_factor(linear_tables[1][t], linear_tables[1][s]) for t, s in steps_down(S))
    *_, last = ddim_sample(UNIT, LINEAR, column(0.8), steps=S)
    assert last.x_t.item() == pytest.approx(0.8 * factor, rel=1e-9)


@pytest.mark.parametrize("variance", [4.0, 0.25])
def test_error_of_ddim_against_the_ode_falls_at_first_order(linear_tables, variance):
    exact = ode_factor(linear_tables[1][1000], 1.0, variance)
    errors = []
    for S in (25, 50, 100, 200):
        *_, last = ddim_sample(GaussianDenoiser(LINEAR, 0.0, variance), LINEAR, column(1.0), steps=S)
        errors.append(abs(last.x_t.item() - exact))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert all(1.9 < ratio < 2.1 for ratio in ratios), ratios
    assert errors[-1] < 0.02 * exact


@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_ddim_with_eta_1_is_ddpm_with_beta_tilde(linear_tables, generator, t, s):
    x0_hat, x_t, noise = torch.randn(3, 4, 1, 2, 2, generator=generator, dtype=torch.float64).unbind(0)
    abar_t = linear_tables[1][t]
    eps_hat = (x_t - math.sqrt(abar_t) * x0_hat) / math.sqrt(1 - abar_t)
    ddim = ddim_step(LINEAR, x0_hat, eps_hat, t, s, noise, 1.0)
    ddpm = ddpm_step(LINEAR, x0_hat, x_t, t, s, noise, "beta_tilde")
    np.testing.assert_allclose(ddim.numpy(), ddpm.numpy(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("S", [1, 7, 300])
def test_ddim_run_with_eta_1_is_the_ddpm_run_with_beta_tilde_and_the_same_noise(S):
    x_T = initial_noise(5, 3, (2,)).double()
    ddim = ddim_sample(UNIT, LINEAR, x_T, steps=S, eta=1.0, generator=torch.Generator().manual_seed(7))
    ddpm = ddpm_sample(UNIT, LINEAR, x_T, steps=S, generator=torch.Generator().manual_seed(7))
    for a, b in zip(ddim, ddpm, strict=True):
        np.testing.assert_allclose(a.x_t.numpy(), b.x_t.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("sampler", "options"), [(ddpm_sample, {"variance": "beta"}), (ddim_sample, {"eta": 0.7})])
def test_loop_takes_its_noise_from_the_generator_step_by_step(linear_tables, sampler, options):
    abar, draws = linear_tables[1], torch.Generator().manual_seed(3)
    x = column(0.8, -0.5)
    frames = sampler(UNIT, LINEAR, x, steps=7, generator=torch.Generator().manual_seed(3), **options)
    for frame, (t, s) in zip(frames, steps_down(7), strict=False):
        np.testing.assert_allclose(frame.x_t.numpy(), x.numpy(), rtol=1e-9)
        noise = torch.randn(2, 1, generator=draws, dtype=torch.float64)
        if sampler is ddpm_sample:  # the mean of the reverse step of data N(0, 1) is sqrt(alpha') x_t
            x = math.sqrt(abar[t] / abar[s]) * x + math.sqrt(1 - abar[t] / abar[s]) * noise
        else:
            sigma = 0.7 * math.sqrt((1 - abar[s]) / (1 - abar[t]) * (1 - abar[t] / abar[s]))
            direction = math.sqrt((1 - abar[s] - sigma**2) * (1 - abar[t]))
            x = (math.sqrt(abar[s] * abar[t]) + direction) * x + sigma * noise


# -- nothing is left at the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("S", [1, 7, 200])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (ddpm_sample, {"variance": "beta"}),
        (ddpm_sample, {"variance": "beta_tilde"}),
        (ddim_sample, {"eta": 0.0}),
        (ddim_sample, {"eta": 1.0}),
    ],
)
def test_last_image_is_what_the_network_saw_in_the_last_x_t(sampler, options, S):
    model = Recorder(UNIT)
    *_, before, last = sampler(model, LINEAR, initial_noise(1, 3, (2,)).double(), steps=S, generator=2, **options)
    assert last.t == 0
    np.testing.assert_allclose(last.x_t.numpy(), model.calls[-1][2].numpy(), rtol=1e-12)
    np.testing.assert_allclose(last.x_t.numpy(), before.x0_hat.numpy(), rtol=1e-12)


@pytest.mark.parametrize("t", [1, 20, 1000])
def test_last_step_adds_no_noise(t):
    x0_hat, x_t, noise = column(0.6), column(-0.4), column(1e6)
    eps_hat = column(0.3)
    assert ddpm_step(LINEAR, x0_hat, x_t, t, 0, noise, "beta").item() == pytest.approx(0.6, rel=1e-10)
    assert ddpm_step(LINEAR, x0_hat, x_t, t, 0, noise, "beta_tilde").item() == pytest.approx(0.6, rel=1e-10)
    assert ddim_step(LINEAR, x0_hat, eps_hat, t, 0, noise, 1.0).item() == 0.6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_last_frame_is_all_image(sampler):
    *_, last = sampler(UNIT, LINEAR, column(0.8), steps=3, generator=0)
    assert torch.equal(last.x0_hat, last.x_t)
    assert torch.equal(last.eps_hat, torch.zeros_like(last.x_t))


# -- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_clipped_halves_still_make_up_x_t(linear_tables, sampler, target):
    x_T = initial_noise(0, 4, (3,)).double()
    clipped = 0
    for frame in sampler(Constant(target, 1.5), LINEAR, x_T, steps=20, clip=True, generator=1):
        abar = linear_tables[1][frame.t]
        assert frame.x0_hat.abs().max() <= 1
        clipped += (frame.x0_hat.abs() == 1).sum().item()
        sum_of_halves = math.sqrt(abar) * frame.x0_hat + math.sqrt(1 - abar) * frame.eps_hat
        np.testing.assert_allclose(sum_of_halves.numpy(), frame.x_t.numpy(), rtol=1e-9, atol=1e-12)
    assert clipped > 20


@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_clip_cuts_the_image_half_at_1_and_leaves_the_rest(linear_tables, target):
    x_t, abar = column(-2.0, -0.3, 0.1, 2.0), linear_tables[1][300]
    a, b = math.sqrt(abar), math.sqrt(1 - abar)
    x = x_t.numpy()
    estimates = {
        "eps": (x - b * 0.2) / a,
        "x0": np.full_like(x, 0.2),
        "v": a * x - b * 0.2,
        "u": (x - b * 0.2) / (a + b),
    }
    expected = estimates[target].clip(-1, 1)
    x0_hat, _ = predict(Constant(target, 0.2), LINEAR, x_t, 300, clip=True)
    np.testing.assert_allclose(x0_hat.numpy(), expected, rtol=1e-10)


def test_without_clip_the_image_half_may_leave_the_grey_values():
    frame = next(ddim_sample(Constant("x0", 1.5), LINEAR, column(0.3), steps=3))
    assert frame.x0_hat.item() == 1.5


# -- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("S", [1, 2, 7, 300])
def test_frames_stand_at_the_times_of_the_subsequence(sampler, S):
    frames = list(sampler(UNIT, LINEAR, column(0.8), steps=S, generator=0))
    assert [frame.t for frame in frames] == times(S)[::-1]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_quadratic_frames_stand_at_the_parabola(sampler):
    frames = list(sampler(UNIT, LINEAR, column(0.8), steps=20, spacing="quadratic", generator=0))
    assert [frame.t for frame in frames] == [math.floor(i**2 * 2.5 + 0.5) for i in range(20, -1, -1)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_times_are_visited_when_steps_is_not_given(sampler):
    schedule = Schedule.linear(12)
    frames = list(sampler(GaussianDenoiser(schedule), schedule, column(0.8), generator=0))
    assert [frame.t for frame in frames] == list(range(12, -1, -1))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_network_is_shown_the_time_of_the_frame_and_the_labels(sampler):
    model, y = Recorder(UNIT), torch.tensor([4, 2])
    list(sampler(model, LINEAR, column(0.8, 0.1), steps=4, y=y, generator=0))
    assert [call[0] for call in model.calls] == [[t, t] for t in (1000, 750, 500, 250)]
    assert all(call[1] is y for call in model.calls)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_first_frame_holds_the_noise_and_how_the_network_splits_it(linear_tables, sampler):
    frame = next(sampler(UNIT, LINEAR, column(0.8), generator=0))
    abar = linear_tables[1][1000]
    assert (frame.t, frame.x_t.item()) == (1000, 0.8)
    assert frame.x0_hat.item() == pytest.approx(math.sqrt(abar) * 0.8, rel=1e-9)
    assert frame.eps_hat.item() == pytest.approx(math.sqrt(1 - abar) * 0.8, rel=1e-9)


def test_frames_are_frozen():
    frame = next(ddim_sample(UNIT, LINEAR, column(0.8)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.t = 3


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_have_the_dtype_of_the_noise_they_start_from(sampler, dtype):
    for frame in sampler(UNIT, LINEAR, torch.ones(2, 3, dtype=dtype), steps=3, generator=0):
        assert (frame.x_t.dtype, frame.x0_hat.dtype, frame.eps_hat.dtype) == (dtype, dtype, dtype)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_float32_run_is_the_float64_run_to_float32_precision(sampler):
    x_T = initial_noise(0, 3, (2,))
    noiseless = {"eta": 0.0} if sampler is ddim_sample else {}
    steps = 1 if sampler is ddpm_sample else 50  # DDPM draws other numbers in float64, except in its noiseless step
    *_, single = sampler(UNIT, LINEAR, x_T, steps=steps, generator=0, **noiseless)
    *_, double = sampler(UNIT, LINEAR, x_T.double(), steps=steps, generator=0, **noiseless)
    np.testing.assert_allclose(single.x_t.numpy(), double.x_t.numpy(), rtol=2e-5)


def test_frames_hold_no_gradient():
    x_T = column(0.8).requires_grad_()
    *_, last = ddim_sample(UNIT, LINEAR, x_T, steps=2)
    assert not last.x_t.requires_grad


# -- seeds ----------------------------------------------------------------------------------------------------------


def last_of(frames) -> torch.Tensor:
    *_, last = frames
    return last.x_t


def test_same_seed_gives_the_same_images_and_another_seed_others():
    x_T = initial_noise(0, 3, (2,))
    first, second, other = (last_of(ddpm_sample(UNIT, LINEAR, x_T, steps=9, generator=seed)) for seed in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.isclose(first, other).any()


@pytest.mark.parametrize(("sampler", "options"), [(ddpm_sample, {}), (ddim_sample, {"eta": 0.7})])
def test_integer_seed_gives_image_i_the_same_noise_in_any_batch(sampler, options):
    x_T = initial_noise(0, 5, (2,))
    five = last_of(sampler(UNIT, LINEAR, x_T, steps=9, generator=4, **options))
    two = last_of(sampler(UNIT, LINEAR, x_T[:2], steps=9, generator=4, **options))
    assert torch.equal(five[:2], two)


def test_images_of_one_seed_get_different_noise():
    images = last_of(ddpm_sample(UNIT, LINEAR, torch.zeros(4, 1), steps=9, generator=4)).flatten().tolist()
    assert len(set(images)) == 4


def test_initial_noise_of_image_i_does_not_depend_on_the_batch():
    assert torch.equal(initial_noise(3, 7, (1, 4, 4))[:2], initial_noise(3, 2, (1, 4, 4)))
    assert not torch.equal(initial_noise(3, 2, (1, 4, 4)), initial_noise(4, 2, (1, 4, 4)))


def test_initial_noise_is_standard_normal():
    x, n = initial_noise(3, 500).double(), 500 * 784
    assert x.shape == (500, 1, 28, 28)
    assert abs(x.mean().item()) < 5 / math.sqrt(n)
    assert abs(x.var().item() - 1) < 5 * math.sqrt(2 / n)
    neighbours = (x[:-1] * x[1:]).mean().item()  # images are independent of each other
    assert abs(neighbours) < 5 / math.sqrt(499 * 784)


def test_noise_of_a_run_is_independent_of_the_initial_noise_of_the_same_seed():
    n = 4_000
    x_T = initial_noise(0, n, (1,))
    drawn = Noise(0, n).like(x_T)
    assert abs((x_T * drawn).mean().item()) < 5 / math.sqrt(n)


def test_one_seed_for_everything_keeps_the_variance_of_unit_data_at_1():
    n = 4_000
    for frame in ddpm_sample(UNIT, LINEAR, initial_noise(0, n, (1,)), steps=30, variance="beta", generator=0):
        if frame.t > 0:
            assert abs(frame.x_t.var().item() - 1) < 5 * math.sqrt(2 / n)


def test_generator_goes_on_where_it_stopped():
    x_T, generator = torch.zeros(2, 1), torch.Generator().manual_seed(4)
    first = last_of(ddpm_sample(UNIT, LINEAR, x_T, steps=9, generator=generator))
    second = last_of(ddpm_sample(UNIT, LINEAR, x_T, steps=9, generator=generator))
    again = last_of(ddpm_sample(UNIT, LINEAR, x_T, steps=9, generator=torch.Generator().manual_seed(4)))
    assert torch.equal(first, again)
    assert not torch.isclose(first, second).any()


def test_without_a_generator_torchs_own_state_decides():
    torch.manual_seed(11)
    first = last_of(ddpm_sample(UNIT, LINEAR, torch.zeros(2, 1), steps=9))
    torch.manual_seed(11)
    assert torch.equal(first, last_of(ddpm_sample(UNIT, LINEAR, torch.zeros(2, 1), steps=9)))


def test_ddim_with_eta_0_draws_no_noise():
    generator = torch.Generator().manual_seed(4)
    before = generator.get_state()
    list(ddim_sample(UNIT, LINEAR, torch.zeros(2, 1), steps=9, generator=generator))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_of_another_kind_is_refused_at_the_call(as_installed, sampler):
    with pytest.raises(ValueError, match=r"^generator must be a torch.Generator, an integer seed or None, got str$"):
        sampler(UNIT, LINEAR, column(0.8), generator="seven")


# -- eta ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 1.2])
@pytest.mark.parametrize(("t", "s"), [(2, 1), (30, 20), (500, 499), (1000, 999)])
def test_sigma_is_its_formula(linear_tables, t, s, eta):
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    expected = eta * math.sqrt((1 - abar_s) / (1 - abar_t)) * math.sqrt(1 - abar_t / abar_s)
    assert ddim_sigma(LINEAR, t, s, eta).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (30, 20), (500, 499), (500, 100), (1000, 500)])
def test_eta_is_admissible_up_to_its_bound(linear_tables, t, s):
    # sigma^2 <= 1 - alpha_bar_s, solved for eta
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    bound = math.sqrt((1 - abar_t) / (1 - abar_t / abar_s))
    assert ddim_sigma(LINEAR, t, s, bound * (1 - 1e-9)).item() == pytest.approx(math.sqrt(1 - abar_s), rel=1e-6)
    with pytest.raises(ValueError, match=rf"^eta must be at most {bound:.4f} for the step from t = {t} to s = {s}, "):
        ddim_sigma(LINEAR, t, s, bound * 1.001)


def test_eta_above_1_is_admissible_on_a_stride_where_the_formula_says_so(linear_tables):
    abar_t, abar_s, eta = linear_tables[1][30], linear_tables[1][20], 1.2
    sigma = eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
    assert sigma**2 < 1 - abar_s
    expected = math.sqrt(abar_s) * 0.6 + math.sqrt(1 - abar_s - sigma**2) * -1.3 + sigma * 1.7
    ours = ddim_step(LINEAR, column(0.6), column(-1.3), 30, 20, column(1.7), eta).item()
    assert ours == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("S", [4, 30, 1000])
def test_inadmissible_eta_of_a_run_is_refused_at_the_call_and_the_bound_named(linear_tables, S):
    abar = linear_tables[1]
    # the step that ends at the image has sigma = 0 for every eta and sets no bound
    bound = min(math.sqrt((1 - abar[t]) / (1 - abar[t] / abar[s])) for t, s in steps_down(S) if s > 0)
    with pytest.raises(ValueError, match=rf"^eta must be at most {bound:.4f}"):
        ddim_sample(UNIT, LINEAR, column(0.8), steps=S, eta=bound + 1e-3)
    frames = list(ddim_sample(UNIT, LINEAR, column(0.8), steps=S, eta=bound - 1e-9, generator=0))
    assert (frames[0].t, frames[-1].t) == (1000, 0)


@pytest.mark.parametrize("eta", [-0.1, math.nan])
def test_eta_below_0_is_refused_at_the_call(eta):
    with pytest.raises(ValueError, match=rf"^eta must be >= 0, got {eta}$"):
        ddim_sample(UNIT, LINEAR, column(0.8), eta=eta)


def test_unknown_variance_is_refused_at_the_call():
    expected = r'^variance must be "beta" or "beta_tilde", got \'gamma\'$'
    with pytest.raises(ValueError, match=expected):
        ddpm_sample(UNIT, LINEAR, column(0.8), variance="gamma")
    with pytest.raises(ValueError, match=expected):
        ddpm_step(LINEAR, column(0.8), column(0.8), 5, 4, column(0.0), "gamma")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bad_steps_and_spacing_are_refused_at_the_call(sampler):
    with pytest.raises(ValueError, match=r"^steps must be an integer from 1 to T = 1000, got 1001$"):
        sampler(UNIT, LINEAR, column(0.8), steps=1001)
    with pytest.raises(ValueError, match=r'^spacing must be "uniform" or "quadratic", got \'cubic\'$'):
        sampler(UNIT, LINEAR, column(0.8), spacing="cubic")


@pytest.mark.parametrize(("t", "s"), [(5, 5), (5, 6)])
def test_steps_that_do_not_go_down_are_refused(t, s):
    expected = rf"^a reverse step goes from t to an earlier time s < t, got t = {t}, s = {s}$"
    with pytest.raises(ValueError, match=expected):
        ddpm_step(LINEAR, column(0.8), column(0.8), t, s, column(0.0))
    with pytest.raises(ValueError, match=expected):
        ddim_step(LINEAR, column(0.8), column(0.8), t, s, column(0.0))


# -- DDIM backwards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [4.0, 1.0, 0.25])
@pytest.mark.parametrize("S", [1, 2, 7, 100, 300])
def test_inversion_without_refinement_is_ddim_with_the_noise_of_where_it_stands(linear_tables, S, variance):
    x, abar = 0.8, linear_tables[1]
    for t, s in reversed(steps_down(S)):
        at = abar[max(s, 1)]  # at the image itself the network can only be asked at t = 1
        eps_hat = math.sqrt(1 - at) / (at * variance + 1 - at) * x
        x0_hat = (x - math.sqrt(1 - abar[s]) * eps_hat) / math.sqrt(abar[s])
        x = math.sqrt(abar[t]) * x0_hat + math.sqrt(1 - abar[t]) * eps_hat
    *_, last = ddim_invert(GaussianDenoiser(LINEAR, 0.0, variance), LINEAR, column(0.8), steps=S)
    assert last.x_t.item() == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("variance", [4.0, 1.0, 0.25])
@pytest.mark.parametrize("S", [7, 20])
def test_inversion_refined_often_divides_by_the_factors_of_ddim(linear_tables, S, variance):
    factor = math.prod(ddim_factor(linear_tables[1][t], linear_tables[1][s], variance) for t, s in steps_down(S))
    *_, last = ddim_invert(GaussianDenoiser(LINEAR, 0.0, variance), LINEAR, column(0.8), steps=S, refine=60)
    assert last.x_t.item() == pytest.approx(0.8 / factor, rel=1e-9)


@pytest.mark.parametrize("variance", [4.0, 1.0, 0.25])
def test_error_of_the_inversion_against_the_ode_falls_at_first_order(linear_tables, variance):
    exact = 1 / ode_factor(linear_tables[1][1000], 1.0, variance)
    errors = []
    for S in (50, 100, 200):
        *_, last = ddim_invert(GaussianDenoiser(LINEAR, 0.0, variance), LINEAR, column(1.0), steps=S)
        errors.append(abs(last.x_t.item() - exact))
    assert all(1.85 < coarse / fine < 2.15 for coarse, fine in itertools.pairwise(errors)), errors


def round_trip_error(variance: float, S: int, refine: int) -> float:
    model = GaussianDenoiser(LINEAR, 0.0, variance)
    *_, top = ddim_invert(model, LINEAR, column(1.0), steps=S, refine=refine)
    *_, bottom = ddim_sample(model, LINEAR, top.x_t, steps=S)
    return abs(bottom.x_t.item() - 1)


@pytest.mark.parametrize("variance", [4.0, 1.0, 0.25])
def test_round_trip_error_falls_with_steps_at_first_order(variance):
    errors = [round_trip_error(variance, S, 0) for S in (50, 100, 200)]
    assert all(1.85 < coarse / fine < 2.15 for coarse, fine in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("variance", [4.0, 1.0, 0.25])
def test_round_trip_error_falls_tenfold_with_each_refinement(variance):
    errors = [round_trip_error(variance, 50, refine) for refine in (0, 1, 2, 3)]
    assert all(coarse > 10 * fine for coarse, fine in itertools.pairwise(errors)), errors


def test_inversion_yields_frames_upwards_from_the_image(linear_tables):
    frames = list(ddim_invert(UNIT, LINEAR, column(0.8), steps=7))
    assert [frame.t for frame in frames] == times(7)
    assert torch.equal(frames[0].x_t, column(0.8))
    assert torch.equal(frames[0].x0_hat, column(0.8))
    assert torch.equal(frames[0].eps_hat, column(0.0))
    for frame in frames[1:]:
        x, abar = frame.x_t.item(), linear_tables[1][frame.t]
        assert frame.x0_hat.item() == pytest.approx(math.sqrt(abar) * x, rel=1e-9)
        assert frame.eps_hat.item() == pytest.approx(math.sqrt(1 - abar) * x, rel=1e-9)


def test_inversion_shows_the_network_the_labels():
    model, y = Recorder(UNIT), torch.tensor([4])
    list(ddim_invert(model, LINEAR, column(0.8), steps=2, refine=1, y=y))
    assert all(call[1] is y for call in model.calls)


def test_negative_refine_is_refused():
    with pytest.raises(ValueError, match=r"^refine must be an integer >= 0, got -1$"):
        ddim_invert(UNIT, LINEAR, column(0.8), refine=-1)


# -- another start, times of one's own --------------------------------------------------------------------------------


def lists_of(*times: int) -> list:
    """The same falling times in all the forms in which they come."""
    rising = np.array(times[::-1])
    return [list(times), tuple(times), np.array(times), rising[::-1], torch.tensor(times, dtype=torch.int32)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_the_usual_times_given_as_a_list_give_the_usual_run(sampler, spacing):
    x_T = initial_noise(0, 3, (2,))
    usual = list(sampler(UNIT, LINEAR, x_T, steps=7, spacing=spacing, generator=4))
    falling = LINEAR.subsequence(7, spacing).flip(0).tolist()
    for given in (*lists_of(*falling), *lists_of(*falling[:-1])):
        for a, b in zip(sampler(UNIT, LINEAR, x_T, times=given, generator=4), usual, strict=True):
            assert a.t == b.t
            assert torch.equal(a.x_t, b.x_t) and torch.equal(a.x0_hat, b.x0_hat) and torch.equal(a.eps_hat, b.eps_hat)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_start_at_T_is_the_usual_start(sampler):
    x_T = initial_noise(0, 3, (2,))
    usual = last_of(sampler(UNIT, LINEAR, x_T, steps=7, generator=4))
    assert torch.equal(last_of(sampler(UNIT, LINEAR, x_T, steps=7, start=1000, generator=4)), usual)
    assert torch.equal(last_of(sampler(UNIT, LINEAR, x_T, steps=7, start=np.int64(1000), generator=4)), usual)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_from_a_start_begins_there_with_the_state_given_and_takes_as_many_steps_as_asked(sampler):
    frames = list(sampler(UNIT, LINEAR, column(0.8), start=400, steps=8, generator=0))
    assert [frame.t for frame in frames] == list(range(400, -1, -50))
    assert torch.equal(frames[0].x_t, column(0.8))
    assert [frame.t for frame in sampler(UNIT, LINEAR, column(0.8), start=5, generator=0)] == [5, 4, 3, 2, 1, 0]
    quadratic = [frame.t for frame in sampler(UNIT, LINEAR, column(0.8), start=400, steps=4, spacing="quadratic")]
    assert quadratic == [400, 225, 100, 25, 0]


def test_the_network_is_evaluated_at_the_times_of_the_list_and_at_no_other():
    model = Recorder(UNIT)
    frames = list(ddim_sample(model, LINEAR, column(0.8), times=[731, 730, 30, 7]))
    assert [frame.t for frame in frames] == [731, 730, 30, 7, 0]
    assert [call[0] for call in model.calls] == [[731], [730], [30], [7]]


@pytest.mark.parametrize("falling", [[1000, 0], [999, 998, 500, 3], [640, 100, 1], [1], [7, 0]])
@pytest.mark.parametrize("variance", [4.0, 0.25])
def test_ddim_over_any_list_multiplies_gaussian_data_by_the_product_of_the_factors(linear_tables, falling, variance):
    abar = linear_tables[1]
    path = falling if falling[-1] == 0 else [*falling, 0]
    factor = math.prod(ddim_factor(abar[t], abar[s], variance) for t, s in itertools.pairwise(path))
    *_, last = ddim_sample(GaussianDenoiser(LINEAR, 0.0, variance), LINEAR, column(0.8), times=falling)
    assert last.x_t.item() == pytest.approx(0.8 * factor, rel=1e-9)


@pytest.mark.parametrize("given", [{"start": 400, "steps": 30}, {"times": [400, 399, 150, 60, 20, 3]}])
def test_images_noised_to_t_and_sampled_from_there_keep_the_variance_of_unit_data(generator, given):
    """SDEdit on data N(0, 1): every x_t of the run has variance 1."""
    n = 20_000
    image, eps = torch.randn(2, n, 1, generator=generator)
    x_t = q_sample(LINEAR, image, 400, eps)
    *frames, _ = ddpm_sample(UNIT, LINEAR, x_t, variance="beta", generator=generator, **given)
    assert frames[0].t == 400
    for frame in frames:
        assert abs(frame.x_t.var().item() - 1) < 5 * math.sqrt(2 / n)
    assert abs((frames[0].x_t * image).mean().item() - LINEAR.alpha_bar[400].sqrt().item()) < 5 / math.sqrt(n)


def test_eta_is_bounded_by_the_steps_that_are_taken_only(linear_tables):
    abar = linear_tables[1]
    bound = math.sqrt((1 - abar[400]) / (1 - abar[400] / abar[399]))
    short = math.sqrt((1 - abar[30]) / (1 - abar[30] / abar[20]))
    assert short < 2 < bound
    list(ddim_sample(UNIT, LINEAR, column(0.8), times=[400, 399], eta=2.0, generator=0))
    with pytest.raises(ValueError, match=rf"^eta must be at most {short:.4f} for the step from t = 30 to s = 20"):
        ddim_sample(UNIT, LINEAR, column(0.8), times=[30, 20], eta=2.0)


@pytest.mark.parametrize("given", [{"start": 400, "steps": 50}, {"times": list(range(400, 0, -8))}])
def test_inversion_goes_up_the_way_that_the_sampler_with_the_same_arguments_comes_down(given):
    model = GaussianDenoiser(LINEAR, 0.0, 0.25)
    frames = list(ddim_invert(model, LINEAR, column(0.8), refine=4, **given))
    assert [frame.t for frame in frames] == list(range(0, 401, 8))
    *_, back = ddim_sample(model, LINEAR, frames[-1].x_t, **given)
    assert back.x_t.item() == pytest.approx(0.8, rel=1e-6)


WAYS = [*SAMPLERS, ddim_invert]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "falling",
    [[1, 500], [500, 500, 1], [500, 1, 1, 0], [], [0], [0, 0], [5, 0, 3]],
    ids=["rises", "stays", "repeats", "empty", "only 0", "twice 0", "0 between"],
)
def test_a_list_that_does_not_fall_strictly_is_refused_at_the_call(way, falling):
    with pytest.raises(
        ValueError, match=r"^times must fall strictly, from the first time \(1\.\.T\) to the last, got \["
    ):
        way(UNIT, LINEAR, column(0.8), times=falling)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1001, 5], r"^times must lie in 0\.\.1000, got 5\.\.1001$"),
        ([5, -1], r"^times must lie in 0\.\.1000, got -1\.\.5$"),
        ([5.0, 1.0], r"^times must hold integers, got dtype float64$"),
        (torch.tensor([5.0, 1.0]), r"^times must hold integers, got dtype torch\.float32$"),
        ("500", r"^times must hold integers, got '500'$"),
        ({5, 3}, r"^times must hold integers, got \{3, 5\}$"),
        (500, r"^times must hold integers, got 500$"),
        ([[5], [3]], r"^times must be an integer or a 1-D tensor of integers, got torch\.int64 of shape \(2, 1\)$"),
    ],
)
def test_a_list_of_something_else_is_refused_at_the_call(as_installed, way, times, expected):
    with pytest.raises(ValueError, match=expected):
        way(UNIT, LINEAR, column(0.8), times=times)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("also", [{"steps": 3}, {"start": 500}, {"spacing": "quadratic"}])
def test_times_beside_steps_spacing_or_start_are_refused(way, also):
    with pytest.raises(
        ValueError, match=r"^times is the whole list of times: give no steps, spacing or start with it, got "
    ):
        way(UNIT, LINEAR, column(0.8), times=[5, 3], **also)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("start", [0, -1, 1001, 2.0, "5", True])
def test_a_start_outside_1_to_T_is_refused(as_installed, way, start):
    with pytest.raises(ValueError, match=rf"^start must be an integer from 1 to T = 1000, got {start!r}$"):
        way(UNIT, LINEAR, column(0.8), start=start)


@pytest.mark.parametrize("way", WAYS)
def test_more_steps_than_there_are_times_below_the_start_are_refused(way):
    with pytest.raises(ValueError, match=r"^steps must be an integer from 1 to start = 5, got 6$"):
        way(UNIT, LINEAR, column(0.8), start=5, steps=6)


@pytest.mark.parametrize("way", WAYS)
def test_the_old_name_of_the_uniform_spacing_says_the_new_one(way):
    with pytest.raises(ValueError, match=r'^spacing "linear" is now called "uniform"$'):
        way(UNIT, LINEAR, column(0.8), steps=5, spacing="linear")


# -- what else is refused at the call ---------------------------------------------------------------------------------


class Output:
    """What diffusers' networks give."""

    def __init__(self, sample):
        self.sample = sample


class Foreign(Constant):
    def __call__(self, x_t, t, y=None):
        return Output(super().__call__(x_t, t, y))


@pytest.mark.parametrize("way", WAYS)
def test_a_model_without_a_target_is_refused_and_the_adapters_named(as_installed, way):
    expected = (
        r'^model must be called as model\(x_t, t, y\) and say what it predicts: model\.target is "eps", "x0", "v" or "u"; got '
        r"(Linear|function) without target\. A network of diffusers or a function of one's own: see process/adapters\.py$"
    )
    for model in (torch.nn.Linear(1, 1), lambda x_t, t, y: x_t):
        with pytest.raises(ValueError, match=expected):
            way(model, LINEAR, column(0.8))


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_gives_no_tensor_of_the_images_shape_is_refused(as_installed, way):
    with pytest.raises(
        ValueError, match=r"^model must give a tensor of x_t's shape \(1, 1\), got Output\. A network of dif"
    ):
        list(way(Foreign("eps", 0.1), LINEAR, column(0.8), steps=2))

    class Wide(Constant):
        def __call__(self, x_t, t, y=None):
            return torch.cat([x_t, x_t], 1)

    with pytest.raises(ValueError, match=r"^model must give a tensor of x_t's shape \(1, 1\), got shape \(1, 2\)\."):
        list(way(Wide("eps", 0.1), LINEAR, column(0.8), steps=2))


@pytest.mark.parametrize(("way", "name"), [(ddpm_sample, "x_T"), (ddim_sample, "x_T"), (ddim_invert, "x_0")])
def test_images_that_are_none_are_refused_by_name(as_installed, way, name):
    def refused(x, expected):
        with pytest.raises(ValueError, match=rf"^{name} must {expected}"):
            way(UNIT, LINEAR, x, steps=2)

    refused(torch.zeros(3), r"be a batch of images \(B, \.\.\.\), got shape \(3,\)$")
    refused(torch.tensor(0.5), r"be a torch\.Tensor of shape \(B, \.\.\.\), got shape \(\)$")
    refused(
        torch.zeros(2, 3, dtype=torch.uint8), r"hold floating-point numbers, got dtype torch\.uint8; bytes 0\.\.255 "
    )
    refused(
        np.zeros((2, 3)), r"be a torch\.Tensor of shape \(B, \.\.\.\), got ndarray of shape \(2, 3\) and dtype float64$"
    )
    refused(torch.tensor([[0.1, math.nan]]), r"hold finite numbers, found NaN or infinity$")
    refused(torch.tensor([[0.1, math.inf]]), r"hold finite numbers, found NaN or infinity$")
    refused([[0.1, 0.2]], r"be a torch\.Tensor")


def test_a_batch_axis_that_is_missing_is_noticed_where_the_models_images_are_known(as_installed):
    class Trained(Constant):
        item_shape = (1, 4, 4)

    list(ddim_sample(Trained("v", 0.1), LINEAR, torch.zeros(2, 1, 4, 4), steps=2))
    for shape in [(1, 4, 4), (4, 4), (2, 3, 4, 4)]:
        came = ", ".join(map(str, shape))
        expected = rf"^x_T must be a batch of images \(B, 1, 4, 4\), got shape \({came}\)$"
        with pytest.raises(ValueError, match=expected):
            ddim_sample(Trained("v", 0.1), LINEAR, torch.zeros(shape), steps=2)


@pytest.mark.parametrize("way", WAYS)
def test_labels_in_every_form_are_the_same_labels(generator, way):
    images = torch.rand(4, 1, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    model = DatasetDenoiser(LINEAR, images, torch.tensor([0, 1, 0, 1]))
    x = torch.randn(3, 1, 3, 3, generator=generator, dtype=torch.float64)
    way = partial(way, generator=0) if way is ddpm_sample else way
    usual = last_of(way(model, LINEAR, x, steps=5, y=torch.tensor([1, 0, 1])))
    forms = [[1, 0, 1], (1, 0, 1), np.array([1, 0, 1]), np.array([1, 0, 1])[::-1], [np.uint8(1), 0, 1]]
    for y in (*forms, torch.tensor([1, 0, 1], dtype=torch.uint8)):
        assert torch.equal(last_of(way(model, LINEAR, x, steps=5, y=y)), usual)
    for one in (1, np.int64(1), torch.tensor(1)):
        ones = last_of(way(model, LINEAR, x, steps=5, y=torch.tensor([1, 1, 1])))
        assert torch.equal(last_of(way(model, LINEAR, x, steps=5, y=one)), ones)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1, 0], r"one label for each image: got 2 labels for 3 images$"),
        ([[1], [0], [1]], r"one label for each image: got shape \(3, 1\) for 3 images$"),
        ([1.0, 0.0, 1.0], r"integers, a label for each image, got dtype float64$"),
        (torch.tensor([1.0, 0.0, 1.0]), r"integers, a label for each image, got dtype torch\.float32$"),
        ([True, False, True], r"integers, a label for each image, got dtype bool$"),
        ("101", r"integers, a label for each image, got '101'$"),
        (["1", "0", "1"], r"integers, a label for each image, got dtype <U1$"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(as_installed, way, y, expected):
    with pytest.raises(ValueError, match="^y must hold " + expected):
        way(UNIT, LINEAR, torch.zeros(3, 1), steps=2, y=y)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_and_steps_of_numpy_are_those_of_python(sampler):
    x_T = initial_noise(3, 2, (2,))
    assert torch.equal(initial_noise(np.int64(3), np.int32(2), np.array([2])), x_T)
    usual = last_of(sampler(UNIT, LINEAR, x_T, steps=9, generator=3))
    for nine, seed in ((np.int64(9), np.int64(3)), (np.uint8(9), np.uint8(3)), (torch.tensor(9), torch.tensor(3))):
        assert torch.equal(last_of(sampler(UNIT, LINEAR, x_T, steps=nine, generator=seed)), usual)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((-1, 2), r"^seed must be an integer >= 0, got -1$"),
        ((1.5, 2), r"^seed must be an integer >= 0, got 1\.5$"),
        ((0, 2.0), r"^batch must be an integer >= 0, got 2\.0$"),
        ((0, True), r"^batch must be an integer >= 0, got True$"),
        (
            (0, 2, (2, -3)),
            r"^batch and shape must be sizes >= 0 of at most 2,147,483,648 numbers in all, got 2 and \(2, -3\)$",
        ),
        ((0, 10**18), r"^batch and shape must be sizes >= 0 of at most 2,147,483,648 numbers in all, got 10{18} and "),
        (
            (0, 0, (10**18, 9)),
            r"^batch and shape must be sizes >= 0 of at most 2,147,483,648 numbers in all, got 0 and ",
        ),
        ((0, 2, 28), r"^shape must hold integers, got 28$"),
        ((0, 2, (2.5,)), r"^shape must hold integers, got dtype float64$"),
    ],
)
def test_noise_of_no_size_is_refused(as_installed, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        initial_noise(*arguments)


def test_no_images_of_noise_have_their_shape():
    assert initial_noise(3, 0, (1, 4, 4)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("way", WAYS)
def test_a_schedule_of_diffusers_is_refused_with_the_way_out(as_installed, way):
    from diffusers import DDPMScheduler

    with pytest.raises(
        ValueError, match=r"^schedule must be a Schedule, got DDPMScheduler; .*schedule_from_diffusers$"
    ):
        way(UNIT, DDPMScheduler(), column(0.8))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clip_is_true_or_false(as_installed, sampler):
    with pytest.raises(ValueError, match=r"^clip must be True or False, got 'no'$"):
        sampler(UNIT, LINEAR, column(0.8), clip="no")


# -- zero terminal SNR ----------------------------------------------------------------------------------------------

ZERO = LINEAR.rescale_zero_terminal_snr()


class AsV:
    """The perfect denoiser of data N(0, 1), with target v: sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 is 0."""

    target = "v"

    def __call__(self, x_t, t, y=None):
        return torch.zeros_like(x_t)


@pytest.mark.parametrize("model", [GaussianDenoiser(ZERO), AsV()], ids=["x0", "v"])
@pytest.mark.parametrize("S", [1, 7, 300])
def test_ddim_from_pure_noise_multiplies_gaussian_data_by_the_product_of_the_factors(model, S):
    abar = ZERO.alpha_bar.tolist()
    factor = math.prod(ddim_factor(abar[t], abar[s]) for t, s in steps_down(S))
    *_, last = ddim_sample(model, ZERO, column(0.8), steps=S)
    assert last.x_t.item() == pytest.approx(0.8 * factor, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("model", [GaussianDenoiser(ZERO), AsV()], ids=["x0", "v"])
def test_ddpm_from_pure_noise_keeps_the_variance_of_unit_data_at_1(generator, model):
    n = 20_000
    x_T = torch.randn(n, 1, generator=generator)
    *_, before, _ = ddpm_sample(model, ZERO, x_T, steps=30, variance="beta", generator=generator)
    assert abs(before.x_t.var().item() - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("way", WAYS)
def test_network_that_predicts_eps_cannot_start_from_pure_noise(way):
    expected = (
        r"^alpha_bar_t = 0: x_0 cannot be recovered from eps \(zero terminal SNR\); use a model with target \"v\" or"
    )
    with pytest.raises(ValueError, match=expected):
        way(Constant("eps", 0.0), ZERO, column(0.8), steps=3)


@pytest.mark.parametrize("way", WAYS)
def test_below_pure_noise_a_network_that_predicts_eps_may_start(way):
    assert last_of(way(Constant("eps", 0.1), ZERO, column(0.8), start=999, steps=3)).isfinite().all()


# -- a data set -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "options"), [(ddim_sample, {}), (ddim_sample, {"eta": 1.0}), (ddpm_sample, {"variance": "beta"})]
)
def test_perfect_denoiser_of_a_data_set_can_only_give_its_images_back(generator, sampler, options):
    images = torch.rand(4, 1, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    x_T = torch.randn(30, 1, 3, 3, generator=generator, dtype=torch.float64)
    found = last_of(sampler(DatasetDenoiser(LINEAR, images), LINEAR, x_T, steps=50, generator=generator, **options))
    distance = (found[:, None] - images).flatten(2).norm(dim=2)
    assert distance.min(1).values.max() < 1e-6
    assert len(distance.argmin(1).unique()) > 1


def test_labels_lead_to_the_images_of_the_class(generator):
    images = torch.rand(4, 1, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    labels, y = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1] * 10)
    x_T = torch.randn(20, 1, 3, 3, generator=generator, dtype=torch.float64)
    found = last_of(ddim_sample(DatasetDenoiser(LINEAR, images, labels), LINEAR, x_T, steps=50, y=y))
    nearest = (found[:, None] - images).flatten(2).norm(dim=2).argmin(1)
    assert torch.equal(labels[nearest], y)


def test_caller_may_stop_a_run_at_any_time():
    model = Recorder(UNIT)
    list(itertools.islice(ddim_sample(model, LINEAR, column(0.8), steps=100), 3))
    assert len(model.calls) == 3
