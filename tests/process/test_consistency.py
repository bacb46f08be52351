"""Sampling in one call or a few, with a consistency function known in closed form, and with the exact denoiser beside it."""

import math

import pytest
import torch
from torch import nn

from diffnotes.process.consistency import consistency_sample
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.samplers import ddim_step, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, karras_times

COSINE = Schedule.cosine(1000)
S0 = 0.4  # standard deviation of the Gaussian data
MEANS, SD = torch.tensor([[-0.6], [0.5]], dtype=torch.float64), 0.15  # of the mixture, half of it each
POINTS = torch.linspace(-2.1, 2.1, 15, dtype=torch.float64)


def roots(t: int, schedule: Schedule = COSINE) -> tuple[float, float]:
    """a and b of time t."""
    return math.sqrt(float(schedule.alpha_bar[t])), math.sqrt(1 - float(schedule.alpha_bar[t]))


class Ends:
    """The consistency function of data N(0, S0^2) in closed form (eq. 14.14): x S0 / sqrt(alpha_bar S0^2 + 1 - alpha_bar)."""

    target = "x0"

    def __init__(self) -> None:
        self.calls: list[tuple[int, torch.Tensor, torch.Tensor | None]] = []

    def __call__(self, x_t, t, y=None):
        self.calls.append((int(t[0]), x_t, y))
        abar = COSINE.alpha_bar[t].to(x_t).reshape(-1, *[1] * (x_t.ndim - 1))
        return x_t * S0 / (abar * S0**2 + 1 - abar).sqrt()


def mixture_end(x_t: torch.Tensor, t: int) -> torch.Tensor:
    """The end of the curve through x_t, by quantiles: in one dimension a point keeps the share of the data on its left."""
    a, b = roots(t)

    def share(x: torch.Tensor, a: float, b: float) -> torch.Tensor:
        spread = math.sqrt(a**2 * SD**2 + b**2)
        return torch.special.ndtr((x[..., None] - a * MEANS.flatten()) / spread).mean(-1)

    wanted, low, high = share(x_t, a, b), torch.full_like(x_t, -4.0), torch.full_like(x_t, 4.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = share(middle, 1.0, 0.0) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def posterior(x_t: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x_0 on a fine grid, and p(x_0 | x_t) as weights that sum to 1: (n,), (points, n)."""
    a, b = roots(t)
    x0 = torch.linspace(-2.5, 2.5, 20_001, dtype=torch.float64)
    data = torch.exp(-0.5 * ((x0[:, None] - MEANS.flatten()) / SD) ** 2).sum(1)
    weights = data * torch.exp(-0.5 * ((x_t[:, None] - a * x0) / b) ** 2)
    return x0, weights / weights.sum(1, keepdim=True)


# -- eq. 14.14: the end of a curve is not a mean ------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [992, 600, 134])
def test_the_closed_form_is_where_the_flow_ends(t):
    """Many steps of a solver of second order from t, with the exact denoiser; the mean lies elsewhere."""
    a, b = roots(t)
    x_t = math.sqrt(a**2 * S0**2 + b**2) * POINTS[:, None]
    denoiser = GaussianDenoiser(COSINE, variance=S0**2)
    *_, last = dpm_solver_sample(denoiser, COSINE, x_t, steps=100, start=t)
    times = torch.full((len(x_t),), t)
    exact, mean = Ends()(x_t, times), denoiser(x_t, times)
    assert (last.x_t - exact).abs().max() < 2e-3
    assert (mean - exact).abs().max() > 0.008


@pytest.mark.parametrize("t", [992, 600])
def test_the_end_by_quantiles_is_where_the_flow_of_a_mixture_ends(t):
    denoiser = MixtureDenoiser(COSINE, MEANS, SD**2)
    *_, last = dpm_solver_sample(denoiser, COSINE, POINTS[:, None], steps=300, start=t)
    assert (last.x_t[:, 0] - mixture_end(POINTS, t)).abs().max() < 4e-3


# -- eq. 14.15: consistency training needs no teacher --------------------------------------------------------------------------


@pytest.mark.parametrize("t, s", [(992, 987), (785, 592), (331, 134), (40, 7)])
def test_the_same_noise_at_both_times_is_one_ddim_step_on_average(t, s):
    """E[a_s x_0 + b_s eps | x_t] by quadrature over p(x_0 | x_t), for a mixture."""
    (a_t, b_t), (a_s, b_s) = roots(t), roots(s)
    x_t = a_t * MEANS.mean() + math.sqrt(a_t**2 + b_t**2) * POINTS / 2
    x0, weights = posterior(x_t, t)
    x_s = a_s * x0 + b_s * (x_t[:, None] - a_t * x0) / b_t
    column = x_t[:, None]
    x0_hat = MixtureDenoiser(COSINE, MEANS, SD**2)(column, torch.full((len(x_t),), t))
    eps_hat = (column - a_t * x0_hat) / b_t
    step = ddim_step(COSINE, x0_hat, eps_hat, t, s, torch.zeros_like(column))
    assert ((weights * x_s).sum(1) - step[:, 0]).abs().max() < 1e-9


def test_what_the_curvature_of_f_leaves_falls_with_the_square_of_the_step():
    """E[f(x_s) | x_t] - f(E[x_s | x_t]) = O(h^2), for steps of about half the length each time; not O(h), and not 0."""
    lam, t, gaps = COSINE.log_snr / 2, 600, []
    x_t = torch.tensor([0.2], dtype=torch.float64)
    x0, weights = posterior(x_t, t)
    for s in (550, 582, 590, 595):
        (a_t, b_t), (a_s, b_s) = roots(t), roots(s)
        x_s = a_s * x0 + b_s * (x_t - a_t * x0) / b_t
        gap = (weights[0] * mixture_end(x_s, s)).sum() - mixture_end((weights[0] * x_s).sum(), s)
        gaps.append(float(gap / (lam[s] - lam[t]) ** 2))
    assert gaps[-1] == pytest.approx(-0.0709, abs=1e-3)  # measured
    assert all(later / gap == pytest.approx(1, abs=0.15) for gap, later in zip(gaps[:-1], gaps[1:], strict=True))


# -- the sampler ----------------------------------------------------------------------------------------------------------------


def test_one_call_a_time_and_the_last_frame_is_a_prediction():
    model = Ends()
    frames = list(consistency_sample(model, COSINE, initial_noise(0, 5), times=[992, 600, 134], generator=0))
    assert [frame.t for frame in frames] == [992, 600, 134, 0] and [call[0] for call in model.calls] == [992, 600, 134]
    assert torch.equal(frames[0].x_t, initial_noise(0, 5))
    assert torch.equal(frames[-1].x_t, frames[-2].x0_hat) and torch.equal(frames[-1].x0_hat, frames[-1].x_t)
    assert not frames[-1].eps_hat.any()


def test_between_two_calls_the_noise_is_fresh():
    """x_s = a_s x0_hat + b_s z with z from the generator, and not with the eps_hat that DDIM would keep."""
    frames = list(
        consistency_sample(
            Ends(),
            COSINE,
            initial_noise(0, 2000, (4,)),
            times=[992, 600, 134],
            generator=torch.Generator().manual_seed(3),
        )
    )
    g = torch.Generator().manual_seed(3)
    for before, frame in zip(frames[:-2], frames[1:-1], strict=True):
        a, b = roots(frame.t)
        z = torch.randn(2000, 4, generator=g)
        assert torch.allclose(frame.x_t, a * before.x0_hat + b * z, atol=1e-6)
        assert abs(torch.corrcoef(torch.stack([z.flatten(), before.eps_hat.flatten()]))[0, 1]) < 0.05
    after = torch.rand(1, generator=g)
    assert not torch.equal(after, torch.rand(1, generator=torch.Generator().manual_seed(3)))


def test_no_noise_is_drawn_for_the_last_prediction():
    """The generator is where three times, that is two noises, leave it."""
    g, twin = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    list(consistency_sample(Ends(), COSINE, initial_noise(0, 5), times=[992, 600, 134, 0], generator=g))
    for _ in range(2):
        torch.randn(5, 1, 28, 28, generator=twin)
    assert torch.equal(g.get_state(), twin.get_state())


@pytest.mark.parametrize("times", [[992], [992, 600], [992, 785, 592, 134]])
def test_the_consistency_function_draws_the_data_with_any_number_of_calls_and_the_denoiser_does_not(times, generator):
    x_T = torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
    *_, last = consistency_sample(Ends(), COSINE, x_T, times=times, generator=generator)
    assert last.x_t.std().item() == pytest.approx(S0, rel=0.02)

    *_, last = consistency_sample(
        GaussianDenoiser(COSINE, variance=S0**2), COSINE, x_T, times=times, generator=generator
    )
    variance = 1.0  # of what the first call sees; then of each prediction
    for i, t in enumerate(times):
        a, b = roots(t)
        seen = 1.0 if i == 0 else a**2 * variance + b**2
        variance = (a * S0**2 / (a**2 * S0**2 + b**2)) ** 2 * seen
    assert last.x_t.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)
    assert math.sqrt(variance) < 0.97 * S0


def test_the_exact_denoiser_of_two_points_gives_their_mean_in_one_call_and_points_in_four(generator):
    """The untouched network is the baseline: its first x0_hat is a mean, and calls with fresh noise make samples of it."""
    points = MixtureDenoiser(COSINE, torch.tensor([[-0.8, 0.8], [0.8, 0.8]]))
    x_T = torch.randn(2000, 2, generator=generator)
    *_, one = consistency_sample(points, COSINE, x_T)
    assert (one.x_t[:, 0].abs() < 0.1).all() and torch.allclose(one.x_t[:, 1], torch.tensor(0.8))
    *_, four = consistency_sample(points, COSINE, x_T, times=[992, 700, 400, 100], generator=generator)
    assert (four.x_t[:, 0].abs() > 0.7).float().mean() > 0.9 and abs(four.x_t[:, 0].mean()) < 0.1


def test_without_times_there_is_one_call_where_the_noise_level_is_80():
    for schedule in (COSINE, Schedule.linear(), Schedule.cosine(100)):
        model = GaussianDenoiser(schedule)
        frames = list(consistency_sample(model, schedule, initial_noise(0, 2)))
        assert [frame.t for frame in frames] == karras_times(schedule, 1).tolist()
        assert torch.equal(frames[-1].x_t, frames[0].x0_hat)
    assert karras_times(COSINE, 1).tolist() == [992, 0]


class Network(nn.Module):
    """Its prediction depends on the label, the time and the position in the image."""

    target, num_classes = "v", 10

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.1, 0.9, 28))

    def forward(self, x_t, t, y=None):
        label = torch.full_like(t, 10) if y is None else y
        return self.weight * x_t + 0.01 * (label + t / 1000).reshape(-1, 1, 1, 1)


def test_with_a_seed_each_image_has_noise_of_its_own_on_any_number_of_cores():
    model, y = Network().eval(), torch.arange(24) % 10
    before = torch.get_num_threads()
    whole = {}
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            *_, last = consistency_sample(model, COSINE, initial_noise(5, 24), times=[992, 600], y=y, generator=5)
            whole[cores] = last.x_t
    finally:
        torch.set_num_threads(before)
    *_, first = consistency_sample(model, COSINE, initial_noise(5, 3), times=[992, 600], y=y[:3], generator=5)
    assert torch.allclose(whole[1], whole[2], atol=1e-6) and torch.allclose(whole[1][:3], first.x_t, atol=1e-6)
    *_, other = consistency_sample(model, COSINE, initial_noise(5, 3), times=[992, 600], y=y[:3], generator=6)
    assert not torch.allclose(other.x_t, first.x_t, atol=1e-2)


def test_labels_guidance_and_clip_are_those_of_the_other_samplers():
    model, x_T, y = Network().eval(), initial_noise(5, 4), torch.tensor([0, 3, 9, 9])
    way = dict(times=[992, 600], generator=1)
    *_, plain = consistency_sample(model, COSINE, x_T, **way)
    *_, asked = consistency_sample(model, COSINE, x_T, y=y, **way)
    *_, guided = consistency_sample(ClassifierFreeGuidance(model, 2.0), COSINE, x_T, y=y, **way)
    # the prediction is linear in everything here, so guidance 2 goes once more the way from plain to asked
    assert torch.allclose(guided.x_t - plain.x_t, 2 * (asked.x_t - plain.x_t), atol=1e-5)
    assert not torch.allclose(asked.x_t, plain.x_t, atol=1e-3)
    frames = list(consistency_sample(model, COSINE, 3 * x_T, clip=True, **way))
    assert all(frame.x0_hat.abs().max() <= 1 for frame in frames)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            dict(times=[600, 992]),
            r"^times must fall strictly, from the first time \(1\.\.T\) to the last, got \[600, 992\]$",
        ),
        (dict(times=[992, 992]), r"^times must fall strictly"),
        (dict(times=[]), r"^times must fall strictly"),
        (dict(times=[0]), r"^times must fall strictly"),
        (dict(times=[1001]), r"^times must lie in 0\.\.1000, got 1001\.\.1001$"),
        (dict(times=[992.5]), r"^times must hold integers"),
        (dict(generator="1"), r"^generator must be a torch\.Generator, an integer seed or None, got str$"),
        (dict(y=[1, 2]), r"^y must hold one label for each image: got 2 labels for 3 images$"),
        (dict(clip=1), r"^clip must be True or False, got 1$"),
        (dict(model=lambda x, t, y: x), r"^model must be called as model\(x_t, t, y\) and say what it predicts"),
        (dict(x_T=torch.full((3, 1), math.nan)), r"^x_T must hold finite numbers"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_drawn(wrong, message, as_installed):
    usual = dict(model=Ends(), schedule=COSINE, x_T=torch.zeros(3, 1), times=[992, 600])
    with pytest.raises(ValueError, match=message):
        consistency_sample(**(usual | wrong))


def test_an_eps_prediction_cannot_begin_without_any_signal():
    model, schedule = Ends(), COSINE.rescale_zero_terminal_snr()
    model.target = "eps"
    with pytest.raises(ValueError, match=r"x_0 cannot be recovered from eps"):
        consistency_sample(model, schedule, torch.zeros(3, 1), times=[1000])
    list(consistency_sample(model, schedule, torch.zeros(3, 1)))  # begins where the noise level is 80
