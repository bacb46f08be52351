"""The solvers of second order: against another implementation, closed forms and the exact end of a curve; and slips in them.

Four checks of the module come first. Each must hold of solvers.py as it is; each slip, a line of solvers.py changed, must be
refuted by those checks that SLIPS names, and by no other. So they can fail, and it is known which of them sees what: a wrong
ratio r in 2M leaves the order at 2, and only the comparison with another implementation, or predictions in a straight line
over lambda, tell it from the right one.
"""

import itertools
import math
from functools import partial
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler
from scipy.optimize import brentq
from scipy.stats import norm
from slips import refuted_by, slipped
from torch import Tensor, nn

from diffnotes.process import solvers
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.samplers import Noise, ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import (
    dpm_solver_sample,
    dpm_solver_step,
    half_log_snr,
    heun_sample,
    karras_times,
    most_karras_steps,
    noise_level,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers
COSINE, LINEAR = Schedule.cosine(), Schedule.linear()
ZERO = COSINE.rescale_zero_terminal_snr()
UNEVEN = [950, 940, 700, 690, 400, 120, 100, 30, 5]
GRIDS = {"Karras' grid": karras_times(COSINE, 10).tolist(), "an uneven grid": UNEVEN}
SAMPLERS = {
    "2M": dpm_solver_sample,
    "SDE-2M": partial(dpm_solver_sample, eta=1),
    "Heun": heun_sample,
    "Heun with churn": partial(heun_sample, churn=2.0),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors are fastest on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def column(*values: float) -> Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return float((ours.double() - theirs.double()).abs().max()) <= tolerance


class Curved:
    """A network whose prediction of the image bends with x_t and with t."""

    target = "x0"

    def __call__(self, x_t, t, y=None):
        return torch.tanh(1.5 * x_t + torch.cos(t.to(x_t) / 90).reshape(-1, 1))


class Line:
    """A network whose prediction of the image is c + g lambda_t, whatever the state."""

    target, c, g = "x0", 0.3, 0.25

    def __call__(self, x_t, t, y=None):
        return (self.c + self.g * half_log_snr(COSINE)[t]).to(x_t).reshape(-1, 1).expand_as(x_t)


class Counter:
    """Passes every call on to a model, and remembers the times and the labels."""

    def __init__(self, model, target: str = "x0") -> None:
        self.model, self.target, self.calls = model, target, []

    def __call__(self, x_t, t, y=None):
        assert len(t.unique()) == 1
        self.calls.append((int(t[0]), y))
        return self.model(x_t, t, y)


# -- another implementation ---------------------------------------------------------------------------------------------

MOST_APART = 1e-5  # theirs computes in float32


def diffusers_2m(falling: list[int], x: Tensor, order: int, eta: int, generator: torch.Generator | None) -> Tensor:
    """The last image of diffusers' multistep DPM-Solver++, whose timestep is our t - 1, with our noise."""
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=COSINE.beta[1:].tolist(), algorithm_type="sde-dpmsolver++" if eta else "dpmsolver++", solver_order=order,
        lower_order_final=False, euler_at_final=False, final_sigmas_type="zero", prediction_type="sample",
    )  # fmt: skip
    scheduler.alphas_cumprod = COSINE.alpha_bar[1:].clone()
    scheduler.set_timesteps(timesteps=[t - 1 for t in falling if t > 0])
    for timestep in scheduler.timesteps.tolist():
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype) if eta else None
        x0_hat = Curved()(x, torch.full((len(x),), timestep + 1))
        x = scheduler.step(x0_hat, timestep, x, variance_noise=noise).prev_sample
    return x


def diffusers_heun(falling: list[int], x: Tensor) -> Tensor:
    """The last image of diffusers' Heun, whose state is x_t / sqrt(alpha_bar_t)."""
    scheduler = HeunDiscreteScheduler(trained_betas=COSINE.beta[1:].tolist(), prediction_type="sample")
    scheduler.alphas_cumprod = COSINE.alpha_bar[1:].clone()
    scheduler.set_timesteps(timesteps=[t - 1 for t in falling if t > 0])
    x = x / COSINE.alpha_bar[falling[0]].sqrt()
    for timestep in scheduler.timesteps:
        x0_hat = Curved()(scheduler.scale_model_input(x, timestep), torch.full((len(x),), int(timestep) + 1))
        x = scheduler.step(x0_hat, timestep, x).prev_sample
    return x


def parity(module: ModuleType) -> None:
    """Every solver, on every grid, ends where diffusers' ends."""
    x = initial_noise(0, 6, (3,)).double()
    for falling in GRIDS.values():
        for order, eta in itertools.product((1, 2), (0, 1)):
            seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
            given = {"times": falling, "order": order, "eta": eta, "generator": seeds[0]}
            *_, last = module.dpm_solver_sample(Curved(), COSINE, x, **given)
            assert close(last.x_t, diffusers_2m(falling, x, order, eta, seeds[1]), MOST_APART), (falling, order, eta)
        *_, last = module.heun_sample(Curved(), COSINE, x, times=falling)
        assert close(last.x_t, diffusers_heun(falling, x), MOST_APART), falling


# -- predictions in a straight line -------------------------------------------------------------------------------------


def line(module: ModuleType) -> None:
    """Where x0_hat = c + g lambda, a step of 2M on the exact curve goes to (14.2)'s integral, plus a term that is known:
    a_s g [(1 - e^-h) h/2 - (h - 1 + e^-h)], which is -a_s g h^3/12 for small h."""
    a, b, lam = COSINE.alpha_bar.sqrt(), (1 - COSINE.alpha_bar).sqrt(), half_log_snr(COSINE)
    frames = list(module.dpm_solver_sample(Line(), COSINE, column(0.8, -0.3), times=UNEVEN))
    for frame, after in itertools.pairwise(frames[1:-1]):  # the first step and the last are of first order
        h, D = lam[after.t] - lam[frame.t], Line.c + Line.g * lam[frame.t]
        first, second = 1 - math.exp(-h), h - 1 + math.exp(-h)
        exact = b[after.t] / b[frame.t] * frame.x_t + a[after.t] * (first * D + second * Line.g)
        known = a[after.t] * Line.g * (first * h / 2 - second)
        assert close(after.x_t, exact + known, 1e-12), (frame.t, after.t)


# -- first order --------------------------------------------------------------------------------------------------------


def first_order(module: ModuleType) -> None:
    """Of first order, the deterministic solver is DDIM and the stochastic one DDPM with beta-tilde, at every time."""
    x = initial_noise(0, 6, (3,)).double()
    for schedule, falling in itertools.product((COSINE, LINEAR), GRIDS.values()):
        once = {"times": falling, "order": 1}
        pairs = [
            (
                module.dpm_solver_sample(Curved(), schedule, x, **once, eta=0),
                ddim_sample(Curved(), schedule, x, times=falling),
            ),
            (
                module.dpm_solver_sample(Curved(), schedule, x, **once, eta=1, generator=3),
                ddpm_sample(Curved(), schedule, x, times=falling, variance="beta_tilde", generator=3),
            ),
        ]
        for ours, theirs in pairs:
            for one, other in zip(ours, theirs, strict=True):
                assert one.t == other.t
                assert close(one.x_t, other.x_t, 1e-10) and close(one.x0_hat, other.x0_hat, 1e-10)


# -- the order of convergence -------------------------------------------------------------------------------------------

MEANS, WIDTH, WEIGHTS = [-1.0, 0.2, 1.1], 0.35, [0.3, 0.5, 0.2]  # the data: a mixture on a line
START, END, COUNTS = 8.0, 0.1, (40, 80, 160)  # noise levels, steps


def mixture_cdf(x: float, level: float) -> float:
    """The share of the data, noised to this level, that lies below x: the same for all points of a curve (14.1)."""
    spread = math.sqrt(WIDTH**2 + level**2)
    return sum(w * norm.cdf((x - m) / spread) for w, m in zip(WEIGHTS, MEANS, strict=True))


def quantile(share: float, level: float) -> float:
    return brentq(lambda x: mixture_cdf(x, level) - share, -80, 80, xtol=1e-13, rtol=1e-14)


SHARES = np.linspace(0.05, 0.95, 13)
BEGINS, ENDS = (torch.tensor([[quantile(share, level)] for share in SHARES]).double() for level in (START, END))


def levels_of(grid: str, steps: int) -> Tensor:
    """steps + 1 noise levels, from 8 down to 0.1: Karras' with rho = 7, or even in lambda but in turns 1 and 3 long."""
    if grid == "Karras":
        return torch.linspace(START ** (1 / 7), END ** (1 / 7), steps + 1, dtype=torch.float64) ** 7
    lengths = torch.tensor([1.0, 3.0], dtype=torch.float64).repeat(steps // 2)
    share = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    return START * (END / START) ** share


def order_of(sampler, grid: str) -> float:
    """p in error = C S^-p. The schedule's own times are the grid's, so no level is rounded;
    the end is read at the frame before the last, where the noise level is 0.1."""
    errors = []
    for S in COUNTS:
        schedule = Schedule.from_alpha_bar(1 / (1 + levels_of(grid, S).flip(0) ** 2))
        denoiser = MixtureDenoiser(schedule, torch.tensor(MEANS)[:, None], WIDTH**2, torch.tensor(WEIGHTS))
        a = schedule.alpha_bar.sqrt()
        *_, before, _ = sampler(denoiser, schedule, a[-1] * BEGINS, times=list(range(S + 1, 0, -1)))
        errors.append(float((before.x_t / a[1] - ENDS).abs().max()))
    return -float(np.polyfit(np.log(COUNTS), np.log(errors), 1)[0])


def order(module: ModuleType) -> None:
    """DDIM is of first order, 2M and Heun of second, also where the steps are uneven."""
    for sampler, grid, expected in (
        (partial(module.dpm_solver_sample, order=1), "in turns", 1),
        (module.dpm_solver_sample, "Karras", 2),
        (module.dpm_solver_sample, "in turns", 2),
        (module.heun_sample, "in turns", 2),
    ):
        p = order_of(sampler, grid)
        assert abs(p - expected) < 0.1, (grid, p)


# -- the slips ----------------------------------------------------------------------------------------------------------

CHECKS = {"parity": parity, "line": line, "first order": first_order, "order": order}
RATIO = "(level[t_before] / level[t]).log() / (level[t] / level[s]).log()"
SLIPS = {  # what of solvers.py is changed, into what, and which checks refute it
    "1/r in the place of r": ("(0.5 / ratio)", "(0.5 * ratio)", {"parity", "line"}),
    "r from the noise levels": (
        RATIO, "(level[t_before] - level[t]) / (level[t] - level[s])", {"parity", "line"},
    ),
    "without 1/2": ("(0.5 / ratio)", "(1 / ratio)", {"parity", "line", "order"}),
    "r = 1": ("(0.5 / ratio)", "(0.5 + 0 * ratio)", {"parity", "line", "order"}),
    "the slope turned": (
        "(1 + share) * x0_hat - share", "(1 - share) * x0_hat + share", {"parity", "line", "order"},
    ),
    "1 - e^-h in the stochastic step": ("shrink ** (1 + eta)", "shrink", {"parity", "first order"}),
    "no e^-h beside x_t": ("shrink**eta", "1", {"parity", "first order"}),
    "the noise of half a step": ("(2 * eta)", "(1 * eta)", {"parity", "first order"}),
    "Heun, the old level in the second slope": (
        "predict(model, schedule, x_t, s, y, clip)", "predict(model, schedule, x_t, t, y, clip)", {"parity", "order"},
    ),
    "Heun, the second slope alone": ("- level[t]) / 2, x_t)", "- level[t]), x_t)", {"parity", "order"}),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_solvers_pass_every_check(check):
    CHECKS[check](solvers)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refuted_by_the_checks_that_can_see_it_and_by_no_other(slip):
    right, wrong, expected = SLIPS[slip]
    assert refuted_by(slipped(solvers, right, wrong), CHECKS) == expected


# -- the times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [COSINE, LINEAR, Schedule.cosine(5)])
def test_noise_level_and_half_log_snr_are_their_formulas(schedule):
    for t in (1, 2, schedule.T // 2, schedule.T):
        abar = schedule.alpha_bar[t].item()
        level = math.sqrt((1 - abar) / abar)
        assert noise_level(schedule)[t].item() == pytest.approx(level, rel=1e-12)
        assert half_log_snr(schedule)[t].item() == pytest.approx(-math.log(level), rel=1e-9, abs=1e-12)
    assert (noise_level(schedule)[0].item(), half_log_snr(schedule)[0].item()) == (0, math.inf)
    assert len(noise_level(schedule)) == len(half_log_snr(schedule)) == schedule.T + 1


def test_the_noise_level_of_pure_noise_is_infinite():
    assert (noise_level(ZERO)[-1].item(), half_log_snr(ZERO)[-1].item()) == (math.inf, -math.inf)


def rounded(wanted: float, schedule: Schedule) -> int:
    """The time whose level is nearest on a logarithmic axis."""
    return min(range(1, schedule.T + 1), key=lambda t: abs(half_log_snr(schedule)[t].item() + math.log(wanted)))


@pytest.mark.parametrize("schedule", [COSINE, LINEAR])
@pytest.mark.parametrize("rho", [1, 3.0, 7.0, math.inf])
def test_karras_times_have_the_levels_of_the_formula_each_rounded_once(schedule, rho):
    first = rounded(80.0, schedule)
    highest, lowest, S = noise_level(schedule)[first].item(), 0.02, 5
    if rho == math.inf:
        levels = [highest * (lowest / highest) ** (i / (S - 1)) for i in range(S)]
    else:
        one, other = highest ** (1 / rho), lowest ** (1 / rho)
        levels = [(one + i / (S - 1) * (other - one)) ** rho for i in range(S)]
    expected = [rounded(level, schedule) for level in levels]
    assert karras_times(schedule, S, rho=rho).tolist() == [*expected, 0]


def test_karras_times_of_the_cosine_schedule():
    assert karras_times(COSINE, 8).tolist() == [992, 983, 962, 906, 740, 368, 84, 7, 0]
    assert karras_times(COSINE, 1).tolist() == [992, 0] and karras_times(COSINE, 2).tolist() == [992, 7, 0]
    assert karras_times(COSINE, 8).dtype == torch.int64


FINE = Schedule.from_alpha_bar(1 / (1 + torch.logspace(-1, 1, 4000, dtype=torch.float64) ** 2))


def test_rho_1_is_even_in_the_noise_level_and_rho_infinite_in_lambda():
    between = {"highest": 8.0, "lowest": 0.5}
    levels = noise_level(FINE)[karras_times(FINE, 11, rho=1, **between)[:-1]]
    assert close(levels, torch.linspace(8, 0.5, 11), 0.01)
    lam = half_log_snr(FINE)[karras_times(FINE, 11, rho=math.inf, **between)[:-1]]
    assert close(lam, torch.linspace(-math.log(8), -math.log(0.5), 11), 1e-3)
    huge = karras_times(FINE, 11, rho=1e15, **between)  # where the powers have lost their digits
    assert torch.equal(huge, karras_times(FINE, 11, rho=math.inf, **between))


@pytest.mark.parametrize(
    "schedule", [COSINE, LINEAR, ZERO, Schedule.cosine(20), Schedule.linear(20), Schedule.cosine(3)]
)
@pytest.mark.parametrize("rho", [1, 7, math.inf])
def test_karras_times_fall_strictly_for_every_number_of_steps(schedule, rho):
    most = most_karras_steps(schedule)
    first, last = int(karras_times(schedule, 1)[0]), int(karras_times(schedule, most)[-2])
    for S in {*range(1, min(most, 60)), most // 2, most - 1, most} - {0}:
        times = karras_times(schedule, S, rho=rho)
        assert len(times) == S + 1 and bool((times.diff() < 0).all())
        assert (times[0], times[-1]) == (first, 0) and (S == 1 or times[-2] == last)
    assert karras_times(schedule, most, rho=rho).tolist() == [*range(first, last - 1, -1), 0]


def test_karras_times_are_cut_at_80_or_begin_at_T():
    assert noise_level(COSINE)[-1] > 20_000 and noise_level(COSINE)[karras_times(COSINE, 20)[0]] == pytest.approx(
        80, rel=0.01
    )
    assert noise_level(LINEAR)[karras_times(LINEAR, 20)[0]] == pytest.approx(80, rel=0.01)
    short = Schedule.linear(50)
    assert noise_level(short)[-1] < 1 and karras_times(short, 5)[0] == 50


def test_karras_times_of_a_short_schedule():
    assert karras_times(Schedule.cosine(3), 3).tolist() == [3, 2, 1, 0]
    assert karras_times(Schedule.cosine(1), 1).tolist() == [1, 0]
    assert most_karras_steps(Schedule.cosine(12)) == 12
    assert most_karras_steps(Schedule.linear(20)) == 19  # the noise level of t = 1 lies below 0.02
    assert most_karras_steps(COSINE) == 986


@pytest.mark.parametrize("schedule", [COSINE, ZERO])
def test_karras_times_from_a_start(schedule):
    assert karras_times(schedule, 4, start=400).tolist()[0] == 400
    below = karras_times(schedule, 6, start=400)
    assert below.tolist() == karras_times(schedule, 6, highest=noise_level(schedule)[400].item()).tolist()
    usual = karras_times(schedule, 6)
    assert torch.equal(karras_times(schedule, 6, start=int(usual[0])), usual)
    assert karras_times(schedule, 6, start=1000).tolist() == [
        1000,
        *usual.tolist()[1:],
    ]  # and not half of them above 80
    assert karras_times(schedule, 1, start=3).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"steps": 0}, r"steps must be an integer from 1 to T = 1000, got 0"),
        ({"steps": 1001}, r"steps must be an integer from 1 to T = 1000, got 1001"),
        ({"steps": 2.0}, r"steps must be an integer from 1 to T = 1000, got 2\.0"),
        (
            {"steps": 987},
            r"steps must be at most 986, the number of times from t = 992 down to t = 7, where .* is 0\.0198, got 987",
        ),
        (
            {"steps": 5, "start": 10},
            r"steps must be at most 4, the number of times from t = 10 down to t = 7, where the noise level is 0\.0198, got 5",
        ),
        (
            {"steps": 2, "start": 3},
            r"steps must be at most 1, the number of times from t = 3 down to t = 3, where the noise level is 0\.0118, got 2",
        ),
        ({"rho": 0.5}, r"rho must be a number >= 1, or math\.inf, got 0\.5"),
        ({"rho": math.nan}, r"rho must be a number >= 1, or math\.inf, got nan"),
        ({"highest": 0}, r"highest must be a positive number, got 0"),
        ({"highest": math.inf}, r"highest must be a positive number, got inf"),
        ({"lowest": 90}, r"lowest must be a positive number below highest = 80, got 90"),
        ({"lowest": 0}, r"lowest must be a positive number below highest = 80, got 0"),
        ({"start": 0}, r"start must be an integer from 1 to T = 1000, got 0"),
        ({"start": 1001}, r"start must be an integer from 1 to T = 1000, got 1001"),
        ({"schedule": 5}, r"schedule must be a Schedule, got int; .*"),
    ],
)
def test_karras_times_that_there_are_not_are_refused(as_installed, given, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        karras_times(**{"schedule": COSINE, "steps": 5} | given)


# -- one step of DPM-Solver++ -------------------------------------------------------------------------------------------


def step_by_hand(D: float, x_t: float, t: int, s: int, z: float, eta: int, before: tuple[float, int] | None) -> float:
    """(14.12), and with before (14.5), number by number."""

    def a_b_lambda(time: int) -> tuple[float, float, float]:
        abar = COSINE.alpha_bar[time].item()
        return math.sqrt(abar), math.sqrt(1 - abar), 0.5 * math.log(abar / (1 - abar)) if abar < 1 else math.inf

    (_, b_t, lambda_t), (a_s, b_s, lambda_s) = a_b_lambda(t), a_b_lambda(s)
    h = lambda_s - lambda_t
    if before is not None and s > 0:
        r = (lambda_t - a_b_lambda(before[1])[2]) / h
        D = (1 + 1 / (2 * r)) * D - before[0] / (2 * r)
    fresh = b_s * math.sqrt(1 - math.exp(-2 * eta * h)) * z if eta else 0.0
    return b_s / b_t * (math.exp(-h) if eta else 1) * x_t + a_s * (1 - math.exp(-(1 + eta) * h)) * D + fresh


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("before", [None, (0.9, 1000), (-0.5, 996)])
@pytest.mark.parametrize(("t", "s"), [(995, 994), (995, 400), (20, 15), (2, 1), (1, 0), (500, 0)])
def test_a_step_is_its_formula(t, s, before, eta):
    given = before and (column(before[0]), before[1])
    ours = dpm_solver_step(COSINE, column(0.6), column(-0.4), t, s, column(1.7), eta, given).item()
    assert ours == pytest.approx(step_by_hand(0.6, -0.4, t, s, 1.7, eta, before), rel=1e-8)


@pytest.mark.parametrize("eta", [0, 1])
def test_the_images_of_a_batch_may_stand_at_different_times(eta):
    t, s, before = [995, 20, 500], [400, 15, 0], [999, 30, 501]
    x0_hat, x_t, noise, earlier = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1)).double()
    together = dpm_solver_step(COSINE, x0_hat, x_t, t, s, noise, eta, (earlier, before))
    for i in range(3):
        one = slice(i, i + 1)
        alone = (earlier[one], before[i])
        by_itself = dpm_solver_step(COSINE, x0_hat[one], x_t[one], t[i], s[i], noise[one], eta, alone)
        assert close(together[one], by_itself, 1e-12)


@pytest.mark.parametrize("eta", [0, 1])
def test_the_last_step_gives_the_prediction_and_adds_no_noise(eta):
    before = (column(0.1), 30)
    assert dpm_solver_step(COSINE, column(0.6), column(-0.4), 20, 0, column(1e6), eta, before).item() == 0.6


def test_two_equal_predictions_make_the_step_of_first_order():
    x0_hat, x_t, z = column(0.6, 0.2), column(-0.4, 1.3), column(0.0, 0.0)
    first = dpm_solver_step(COSINE, x0_hat, x_t, 700, 300, z)
    assert close(dpm_solver_step(COSINE, x0_hat, x_t, 700, 300, z, 0, (x0_hat, 900)), first, 1e-12)


def test_2m_on_a_line_misses_the_exact_step_by_g_h_cubed_over_12():
    a = COSINE.alpha_bar.sqrt()
    b, lam = (1 - COSINE.alpha_bar).sqrt(), half_log_snr(COSINE)
    ratios = []
    for s in (480, 490, 495):
        t, before = 500, 530
        D, earlier = (column((Line.c + Line.g * lam[time]).item()) for time in (t, before))
        h = lam[s] - lam[t]
        second = h - 1 + torch.exp(-h)
        exact = b[s] / b[t] * 0.4 + a[s] * ((1 - torch.exp(-h)) * D + second * Line.g)
        ours = dpm_solver_step(COSINE, D, column(0.4), t, s, column(0.0), 0, (earlier, before))
        ratios.append(((ours - exact) / (-a[s] * Line.g * h**3 / 12)).item())
        assert ratios[-1] == pytest.approx(1, abs=h.item())
    assert abs(ratios[2] - 1) < abs(ratios[1] - 1) < abs(ratios[0] - 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"eta": 0.5}, r"eta must be 0 \(deterministic\) or 1 \(stochastic\), got 0\.5"),
        ({"eta": math.nan}, r"eta must be 0 \(deterministic\) or 1 \(stochastic\), got nan"),
        ({"noise": column(0.0, 1.0)}, r"x0_hat and noise must have the same shape, got \(1, 1\) and \(2, 1\)"),
        ({"t": 0}, r"t must lie in 1\.\.1000, got 0\.\.0"),
        ({"s": 700}, r"a reverse step goes from t to an earlier time s < t, got t = 700, s = 700"),
        ({"before": (column(0.1), 700)}, r"before must be of a later time than t = 700, got 700"),
        ({"before": (column(0.1), 1001)}, r"the time in before must lie in 1\.\.1000, got 1001\.\.1001"),
        ({"before": (column(0.1, 0.2), 800)}, r"x0_hat and before must have the same shape, got \(1, 1\) and \(2, 1\)"),
        ({"before": column(0.1)}, r"before must be \(x0_hat, t\) of the step before, or None, got Tensor of shape .*"),
    ],
)
def test_a_step_that_there_is_not_is_refused(as_installed, given, expected):
    usual = {"x0_hat": column(0.6), "x_t": column(-0.4), "t": 700, "s": 300, "noise": column(0.0)}
    with pytest.raises(ValueError, match=f"^{expected}$"):
        dpm_solver_step(COSINE, **usual | given)


# -- Heun, number by number ---------------------------------------------------------------------------------------------


def heun_by_hand(variance: float, x: float, falling: list[int], gamma: float = 0.0, z: list[float] | None = None):
    """(t, x_t) at the times where a step begins, and the end: Karras' algorithm 2 for data N(0, variance)."""
    level = noise_level(COSINE).tolist()

    def slope(x_bar: float, t: int) -> float:
        """(x_bar - E[x_0 | x_bar]) / varsigma."""
        return (x_bar - variance / (variance + level[t] ** 2) * x_bar) / level[t]

    def scaled(x_bar: float, t: int) -> float:
        return x_bar / math.sqrt(1 + level[t] ** 2)

    x_bar, found = x * math.sqrt(1 + level[falling[0]] ** 2), []
    for i, (t, s) in enumerate(itertools.pairwise([*falling, 0])):
        higher = max(time for time in range(1001) if level[time] <= (1 + gamma) * level[t])
        x_bar += math.sqrt(level[higher] ** 2 - level[t] ** 2) * (z[i] if z else 0)
        found.append((higher, scaled(x_bar, higher)))
        d = slope(x_bar, higher)
        end = x_bar + (level[s] - level[higher]) * d
        x_bar = end if s == 0 else x_bar + (level[s] - level[higher]) * (d + slope(end, s)) / 2
    return [*found, (0, x_bar)]


@pytest.mark.parametrize("falling", [[992, 700, 300, 40], [500], [1000, 3]])
@pytest.mark.parametrize("variance", [0.25, 4.0])
def test_heun_is_its_formula(falling, variance):
    frames = heun_sample(GaussianDenoiser(COSINE, 0.0, variance), COSINE, column(0.8), times=falling)
    for frame, (t, x) in zip(frames, heun_by_hand(variance, 0.8, falling), strict=True):
        assert frame.t == t and frame.x_t.item() == pytest.approx(x, rel=1e-8)


@pytest.mark.parametrize(("churn", "gamma"), [(1.0, 0.25), (40.0, math.sqrt(2) - 1)])
def test_churn_raises_the_noise_level_before_each_step_with_noise_from_the_generator(churn, gamma):
    falling, draws = [990, 700, 300, 40], torch.Generator().manual_seed(3)
    z = [torch.randn(1, 1, generator=draws, dtype=torch.float64).item() for _ in falling]
    given = {"times": falling, "churn": churn, "generator": torch.Generator().manual_seed(3)}
    frames = list(heun_sample(GaussianDenoiser(COSINE, 0.0, 0.25), COSINE, column(0.8), **given))
    for frame, (t, x) in zip(frames, heun_by_hand(0.25, 0.8, falling, gamma, z), strict=True):
        assert frame.t == t and frame.x_t.item() == pytest.approx(x, rel=1e-7)
    level = noise_level(COSINE)
    for frame, t in zip(frames, falling, strict=False):
        assert frame.t > t and level[frame.t] <= (1 + gamma) * level[t] < level[frame.t + 1]
        assert level[frame.t] ** 2 - level[t] ** 2 <= level[t] ** 2 * (1 + 1e-9)  # no more new noise than old


def test_a_churned_state_of_gaussian_data_has_the_variance_of_its_time(generator):
    """(14.11): x_bar of variance v + varsigma^2 becomes one of variance v + (1 + gamma)^2 varsigma^2."""
    n, v = 40_000, 0.25
    abar = COSINE.alpha_bar
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64) * math.sqrt(abar[500] * v + 1 - abar[500])
    given = {"times": [500, 200], "churn": 0.8, "generator": generator}
    frame = next(heun_sample(GaussianDenoiser(COSINE, 0.0, v), COSINE, x, **given))
    expected = (abar[frame.t] * v + 1 - abar[frame.t]).item()
    assert frame.t > 500 and abs(frame.x_t.var().item() - expected) < 5 * expected * math.sqrt(2 / n)
    assert noise_level(COSINE)[frame.t] == pytest.approx(1.4 * noise_level(COSINE)[500], rel=0.01)


def test_churn_that_is_too_little_for_a_time_changes_nothing():
    short = Schedule.cosine(6)
    model = GaussianDenoiser(short, 0.0, 0.25)
    still = list(heun_sample(model, short, column(0.8), steps=4))
    churned = list(heun_sample(model, short, column(0.8), steps=4, churn=0.01, generator=1))
    assert all(torch.equal(a.x_t, b.x_t) and a.t == b.t for a, b in zip(still, churned, strict=True))


@pytest.mark.parametrize("churn", [-1.0, math.inf, math.nan])
def test_churn_is_a_finite_number_from_0_on(churn):
    with pytest.raises(ValueError, match=rf"^churn must be a finite number >= 0, got {churn}$"):
        heun_sample(Curved(), COSINE, column(0.8), steps=3, churn=churn)


# -- the loops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("S", [1, 2, 5, 10])
def test_the_calls_of_the_model_are_counted(S):
    times = karras_times(COSINE, S).tolist()
    y = torch.tensor([4, 2])
    for options in ({}, {"eta": 1}, {"order": 1}):
        model = Counter(Curved())
        frames = list(dpm_solver_sample(model, COSINE, column(0.8, 0.1), steps=S, y=y, **options))
        assert [frame.t for frame in frames] == times
        assert [t for t, _ in model.calls] == times[:-1]  # S calls
        assert all(labels is y for _, labels in model.calls)
    model = Counter(Curved())
    assert [frame.t for frame in heun_sample(model, COSINE, column(0.8, 0.1), steps=S, y=y)] == times
    expected = [time for t, s in itertools.pairwise(times) for time in (t, s) if time > 0]
    assert [t for t, _ in model.calls] == expected and len(expected) == 2 * S - 1
    assert all(labels is y for _, labels in model.calls)


@pytest.mark.parametrize("name", ["2M", "SDE-2M", "Heun"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"steps": 4}, [992, 950, 507, 7, 0]),
        ({"steps": 4, "start": 400}, karras_times(COSINE, 4, start=400).tolist()),
        ({"steps": 4, "spacing": "uniform"}, [1000, 750, 500, 250, 0]),
        ({"steps": 4, "spacing": "quadratic", "start": 400}, [400, 225, 100, 25, 0]),
        ({"times": [731, 730, 30, 7]}, [731, 730, 30, 7, 0]),
        ({"times": torch.tensor([700, 0])}, [700, 0]),
    ],
)
def test_the_frames_stand_at_the_times_asked_for(name, given, expected):
    frames = list(SAMPLERS[name](Curved(), COSINE, column(0.8), generator=1, **given))
    assert [frame.t for frame in frames] == expected
    assert torch.equal(frames[0].x_t, column(0.8))


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_last_image_is_the_last_prediction_and_all_image(name):
    *_, before, last = SAMPLERS[name](Curved(), COSINE, initial_noise(1, 3, (2,)).double(), steps=6, generator=2)
    assert last.t == 0 and close(last.x_t, before.x0_hat, 1e-12)
    assert torch.equal(last.x0_hat, last.x_t) and torch.equal(last.eps_hat, torch.zeros_like(last.x_t))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("target", ["eps", "x0", "v", "u"])
def test_a_frame_s_image_and_noise_make_up_its_state_also_where_the_image_is_clipped(name, target):
    class Half(Curved):
        def __call__(self, x_t, t, y=None):
            return 0.4 * x_t + 0.7

    model = Half()
    model.target = target
    most = 0.0
    for frame in SAMPLERS[name](model, COSINE, initial_noise(0, 4, (3,)).double(), steps=6, clip=True, generator=1):
        abar = COSINE.alpha_bar[frame.t]
        assert close(abar.sqrt() * frame.x0_hat + (1 - abar).sqrt() * frame.eps_hat, frame.x_t, 1e-9)
        most = max(most, frame.x0_hat.abs().max().item())
    assert most == 1


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_have_the_dtype_of_the_noise_they_start_from_and_no_gradient(name, dtype):
    x_T = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    for frame in SAMPLERS[name](Curved(), COSINE, x_T, steps=4, generator=0):
        assert (frame.x_t.dtype, frame.x0_hat.dtype, frame.eps_hat.dtype) == (dtype, dtype, dtype)
        assert not frame.x0_hat.requires_grad
    assert not frame.x_t.requires_grad


@pytest.mark.parametrize("name", ["2M", "Heun"])
def test_in_float32_a_run_is_the_float64_run_to_float32_precision(name):
    x_T = initial_noise(0, 3, (2,))
    *_, single = SAMPLERS[name](GaussianDenoiser(COSINE, 0.1, 0.3), COSINE, x_T, steps=10)
    *_, double = SAMPLERS[name](GaussianDenoiser(COSINE, 0.1, 0.3), COSINE, x_T.double(), steps=10)
    assert close(single.x_t, double.x_t, 1e-4)


def last_of(frames) -> Tensor:
    *_, last = frames
    return last.x_t


@pytest.mark.parametrize("name", ["SDE-2M", "Heun with churn"])
def test_the_seed_decides_the_noise_and_image_i_has_the_same_in_any_batch(name):
    x_T, model = initial_noise(0, 5, (2,)), GaussianDenoiser(COSINE)

    def drawn(x: Tensor, seed: int) -> Tensor:
        return last_of(SAMPLERS[name](model, COSINE, x, steps=6, generator=seed))

    assert torch.equal(drawn(x_T, 4), drawn(x_T, 4))
    assert torch.equal(drawn(x_T, 4)[:2], drawn(x_T[:2], 4))
    assert not torch.isclose(drawn(x_T, 4), drawn(x_T, 5)).any()


@pytest.mark.parametrize("name", ["2M", "Heun"])
def test_a_deterministic_solver_draws_no_noise(name):
    generator = torch.Generator().manual_seed(4)
    before = generator.get_state()
    list(SAMPLERS[name](Curved(), COSINE, column(0.8), steps=5, generator=generator))
    assert torch.equal(generator.get_state(), before)


class Watched(nn.Module):
    """A denoiser that notes how many images it is called with."""

    target = "x0"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x_t, t, y=None):
        self.seen.append(len(x_t))
        labels = 0 if y is None else y.reshape(-1, 1)
        return torch.tanh(x_t) * torch.cos(t / 90).reshape(-1, 1) + 0.1 * labels


@pytest.mark.parametrize("name", SAMPLERS)
def test_shared_out_among_the_cores_the_images_are_those_of_one_batch(name, monkeypatch):
    x_T, y = initial_noise(0, 11, (3,)).double(), torch.arange(11)
    given = {"steps": 6, "y": y, "generator": 7}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = Watched().eval()
        whole = list(SAMPLERS[name](alone, COSINE, x_T, **given))
        torch.set_num_threads(2)
        shared = Watched().eval()
        parts = list(SAMPLERS[name](shared, COSINE, x_T, **given))
    finally:
        torch.set_num_threads(before)
    assert set(alone.seen) == {11} and set(shared.seen) == {5, 6}
    for one, other in zip(whole, parts, strict=True):
        assert one.t == other.t
        assert torch.equal(one.x_t, other.x_t) and torch.equal(one.x0_hat, other.x0_hat)


def test_a_caller_may_stop_at_any_time():
    model = Counter(Curved())
    list(itertools.islice(dpm_solver_sample(model, COSINE, column(0.8), steps=8), 3))
    assert len(model.calls) == 3


def test_the_loop_hands_the_prediction_before_on_to_the_step():
    x, times = column(0.8, -0.3), [*UNEVEN, 0]
    frames = list(dpm_solver_sample(Curved(), COSINE, x, times=UNEVEN, eta=1, generator=3))
    noise, before = Noise(3, 2), None
    for frame, s in zip(frames, times[1:], strict=False):
        assert close(frame.x_t, x, 1e-12)
        z = noise.like(x) if s > 0 else torch.zeros_like(x)
        x = dpm_solver_step(COSINE, frame.x0_hat, x, frame.t, s, z, 1, before)
        before = (frame.x0_hat, frame.t)
    assert close(frames[-1].x_t, x, 1e-12)


# -- zero terminal SNR --------------------------------------------------------------------------------------------------


class AsV:
    """The optimal denoiser of data N(0, 1), with target v."""

    target = "v"

    def __call__(self, x_t, t, y=None):
        return torch.zeros_like(x_t)


@pytest.mark.parametrize("eta", [0, 1])
def test_from_pure_noise_the_first_step_and_the_next_are_of_first_order(eta):
    """r = h'/h is infinite for the second step: nothing is known about the slope there."""
    given = {"times": [1000, 600, 0], "generator": 3}
    once = list(dpm_solver_sample(Curved(), ZERO, column(0.8), order=1, eta=eta, **given))
    twice = list(dpm_solver_sample(Curved(), ZERO, column(0.8), order=2, eta=eta, **given))
    for one, other in zip(once, twice, strict=True):
        assert close(one.x_t, other.x_t, 1e-12) and bool(other.x_t.isfinite().all())
    long = dpm_solver_sample(Curved(), ZERO, column(0.8), times=[1000, 800, 600, 300, 50], eta=eta, generator=3)
    assert all(bool(frame.x_t.isfinite().all()) for frame in long)


@pytest.mark.parametrize("name", SAMPLERS)
def test_karras_grid_of_a_schedule_with_zero_terminal_snr_begins_below_pure_noise(name):
    frames = list(SAMPLERS[name](AsV(), ZERO, column(0.8), steps=8, generator=1))
    assert frames[0].t < 1000 and frames[-1].x_t.isfinite().all()
    from_the_top = {"steps": 8, "start": 1000, "generator": 1}
    if "Heun" not in name:
        assert next(SAMPLERS[name](AsV(), ZERO, column(0.8), **from_the_top)).t == 1000
    else:
        expected = r"^times must begin where the noise level is finite, got t = 1000, where alpha_bar_t = 0$"
        with pytest.raises(ValueError, match=expected):
            SAMPLERS[name](AsV(), ZERO, column(0.8), **from_the_top)


def test_a_network_that_predicts_eps_cannot_start_from_pure_noise():
    model = Counter(AsV(), "eps")
    with pytest.raises(ValueError, match=r"^alpha_bar_t = 0: x_0 cannot be recovered from eps \(zero terminal SNR\)"):
        dpm_solver_sample(model, ZERO, column(0.8), times=[1000, 500])
    assert last_of(dpm_solver_sample(model, ZERO, column(0.8), steps=5)).isfinite().all()


# -- what else is refused, at the call ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, r"steps must be given, or a list of times, got neither"),
        ({"steps": 0}, r"steps must be an integer from 1 to T = 1000, got 0"),
        ({"steps": 5, "spacing": "uniform", "start": 3}, r"steps must be an integer from 1 to start = 3, got 5"),
        ({"steps": 990}, r"steps must be at most 986, the number of times from t = 992 down to t = 7, .*, got 990"),
        ({"steps": 3, "spacing": "cubic"}, r'spacing must be one of "karras", "uniform", "quadratic", got \'cubic\''),
        ({"steps": 3, "start": 1001}, r"start must be an integer from 1 to T = 1000, got 1001"),
        (
            {"times": [5, 3], "steps": 2},
            r"times is the whole list of times: give no steps, spacing or start with it, .*",
        ),
        ({"times": [3, 5]}, r"times must fall strictly, from the first time \(1\.\.T\) to the last, got \[3, 5\]"),
        ({"times": [5, 3, 3]}, r"times must fall strictly, from the first time .*"),
        ({"times": [1001, 3]}, r"times must lie in 0\.\.1000, got 3\.\.1001"),
        ({"steps": 3, "clip": "no"}, r"clip must be True or False, got 'no'"),
        ({"steps": 3, "y": [1, 2]}, r"y must hold one label for each image: got 2 labels for 1 images"),
        ({"steps": 3, "generator": "a"}, r"generator must be a torch\.Generator, an integer seed or None, got str"),
        ({"steps": 3, "x_T": torch.zeros(3)}, r"x_T must be a batch of images \(B, \.\.\.\), got shape \(3,\)"),
        ({"steps": 3, "x_T": column(math.nan)}, r"x_T must hold finite numbers, found NaN or infinity"),
        ({"steps": 3, "model": nn.Linear(1, 1)}, r"model must be called as .*"),
        ({"steps": 3, "schedule": "cosine"}, r"schedule must be a Schedule, got str; .*"),
    ],
)
@pytest.mark.parametrize("sampler", [dpm_solver_sample, heun_sample])
def test_what_no_solver_can_do_is_refused_at_the_call(as_installed, sampler, given, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        sampler(**{"model": Curved(), "schedule": COSINE, "x_T": column(0.8)} | given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"order": 0}, r"order must be an integer from 1 to 2, got 0"),
        ({"order": 3}, r"order must be an integer from 1 to 2, got 3"),
        ({"order": 1.5}, r"order must be an integer from 1 to 2, got 1\.5"),
        ({"eta": 0.5}, r"eta must be 0 \(deterministic\) or 1 \(stochastic\), got 0\.5"),
        ({"eta": -1}, r"eta must be 0 \(deterministic\) or 1 \(stochastic\), got -1"),
    ],
)
def test_other_orders_and_etas_are_refused_at_the_call(as_installed, given, expected):
    with pytest.raises(ValueError, match=f"^{expected}$"):
        dpm_solver_sample(Curved(), COSINE, column(0.8), steps=3, **given)
