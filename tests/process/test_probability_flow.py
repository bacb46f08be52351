"""The probability flow and the likelihood along it: against exact densities, scipy's solver, DDIM; orders; and slips."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from slips import refuted_by, slipped
from torch import Tensor, nn

from diffnotes.book.proof import line
from diffnotes.process import probability_flow as flow
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import karras_times

COSINE = Schedule.cosine()
CENTRES = torch.tensor([[-1.2, 0.0], [1.2, 0.5], [1.2, -0.75]], dtype=torch.float64)  # their mean is 0
PLANE = MixtureDenoiser(COSINE, CENTRES, 0.04, torch.tensor([0.5, 0.3, 0.2]))
FEW = [950, 600, 200, 30]
GRID = karras_times(COSINE, 41)[:-1].tolist()


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def points(number: int = 60, seed: int = 0) -> Tensor:
    """Draws of q at the last time of GRID."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(2, number, 2, generator=g, dtype=torch.float64)
    chosen = CENTRES[torch.multinomial(PLANE.weights, number, True, generator=g)]
    bar = COSINE.alpha_bar[GRID[-1]]
    return bar.sqrt() * (chosen + 0.2 * z[0]) + (1 - bar).sqrt() * z[1]


class Curved(nn.Module):
    """A network that bends with x_t and t and mixes its coordinates."""

    target, num_classes = "v", None

    def forward(self, x_t, t, y=None):
        return torch.tanh(1.5 * x_t.flip(1) + x_t + torch.cos(t.to(x_t) / 90).reshape(-1, 1))


# -- what has to hold ---------------------------------------------------------------------------------------------------


def density(module: ModuleType) -> None:
    """On the mixture the likelihood is the exact density, and the error falls with the square of the steps."""
    x, off = points(30), []
    truth = PLANE.log_density(x, GRID[-1])
    for steps in (60, 120):
        found, _ = module.flow_log_likelihood(PLANE, COSINE, x, steps=steps, trace="exact")
        off.append((found - truth).square().mean().sqrt().item())
    assert off[1] < 2e-3 and 3 < off[0] / off[1] < 6, off


def scipys_solver(module: ModuleType) -> None:
    """Upwards, the flow ends where scipy's solver does in the angle, and downwards it comes back."""
    data, x = line.Mixture(), np.linspace(-1.5, 1.5, 7)
    weights = torch.tensor(data.weights, dtype=torch.float64)
    model = MixtureDenoiser(COSINE, column(*data.means), data.sd**2, weights)
    times = karras_times(COSINE, 100, highest=20.0, lowest=0.1)[:-1].tolist()
    first, last = (torch.acos(COSINE.alpha_bar[t].sqrt()).item() for t in (times[-1], times[0]))

    def velocity(phi: float, x: np.ndarray) -> np.ndarray:
        image = data.prediction(x / math.cos(phi), math.tan(phi))
        return np.asarray(math.cos(phi) * (x - math.cos(phi) * image) / math.sin(phi) - math.sin(phi) * image)

    exact = solve_ivp(velocity, (first, last), x, rtol=1e-10, atol=1e-12).y[:, -1]
    *_, up = module.probability_flow(model, COSINE, column(*x), times=times, up=True)
    assert np.abs(up.x_t[:, 0].numpy() - exact).max() < 2e-3
    *_, before, _ = module.probability_flow(model, COSINE, up.x_t, times=times)
    assert before.t == times[-1] and np.abs(before.x_t[:, 0].numpy() - x).max() < 5e-3


def rotation(module: ModuleType) -> None:
    """Solver "ddim" is DDIM, also on uneven times."""
    x = initial_noise(0, 5, (3,)).double()
    for times in ([950, 940, 700, 400, 120, 30, 5], GRID):
        *_, ours = module.probability_flow(Curved(), COSINE, x, times=times, solver="ddim")
        *_, theirs = ddim_sample(Curved(), COSINE, x, times=times)
        assert (ours.x_t - theirs.x_t).abs().max() < 1e-9


def trace(module: ModuleType) -> None:
    """One sign vector is right on average: over the four of the plane exactly, for they share the path."""
    x = points(6)
    exact, _ = module.flow_log_likelihood(PLANE, COSINE, x, times=FEW, trace="exact")
    found = torch.stack(
        [module.flow_log_likelihood(PLANE, COSINE, x, times=FEW, generator=seed)[0] for seed in range(14)]
    )
    values = [row.unique() for row in found.round(decimals=8).T]  # z and -z give the same
    assert [len(two) for two in values] == [2] * len(x)
    assert (torch.stack([two.mean() for two in values]) - exact).abs().max() < 1e-6


CHECKS = {"density": density, "scipy's solver": scipys_solver, "rotation": rotation, "trace": trace}
SLIPS = {
    "the sign of the integral": ("return prior + total, x", "return prior - total, x", {"density"}),
    "no integral": ("return prior + total, x", "return prior, x", {"density", "trace"}),
    "half the divergence": ("float(d) / 2 * share", "float(d) / 4 * share", {"density"}),
    "the first slope twice": ("(div + div_there)", "(2 * div)", {"density"}),
    "no 2 pi": ("math.log(2 * math.pi)", "math.log(math.pi)", {"density"}),
    "Heun without its second slope": ('if solver == "heun":', 'if solver == "none":', {"scipy's solver"}),
    "the rotation turned": ("(d.cos(), d.sin())", "(d.cos(), -d.sin())", {"rotation"}),
    "noise in place of signs": ("torch.where(noise.like(x) < 0, -1.0, 1.0).to(x)", "noise.like(x)", {"trace"}),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_flow_passes_every_check(check):
    CHECKS[check](flow)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refuted_by_the_checks_that_can_see_it(slip):
    right, wrong, expected = SLIPS[slip]
    assert refuted_by(slipped(flow, right, wrong), CHECKS) == expected


# -- closed forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("ddim", 1)])
def test_the_order_of_each_solver_on_gaussian_data(solver, order):
    model, off, schedule = GaussianDenoiser(COSINE, 0.0, 0.25), [], COSINE
    for steps in (20, 80):
        times = schedule.subsequence(steps, start=900).flip(0)[:-1].tolist()
        times[-1] = 10
        v = schedule.alpha_bar * 0.25 + 1 - schedule.alpha_bar
        exact = (v[10] / v[900]).sqrt().item()
        *_, last, _ = flow.probability_flow(model, schedule, column(1.0), times=times, solver=solver)
        off.append(abs(last.x_t.item() - exact))
    assert math.log(off[0] / off[1], 4) == pytest.approx(order, abs=0.35)


def test_the_likelihood_of_gaussian_data_is_its_density():
    model, t = GaussianDenoiser(COSINE, 0.0, 0.25), GRID[-1]
    x = column(-1.0, -0.3, 0.0, 0.6)
    v = (COSINE.alpha_bar[t] * 0.25 + 1 - COSINE.alpha_bar[t]).item()
    exact = -(x[:, 0] ** 2) / (2 * v) - 0.5 * math.log(2 * math.pi * v)
    found, end = flow.flow_log_likelihood(model, COSINE, x, steps=160, trace="exact")
    torch.testing.assert_close(found, exact, atol=2e-3, rtol=0)
    torch.testing.assert_close(end, x / math.sqrt(v), atol=2e-3, rtol=0)


def test_many_sign_vectors_come_near_the_trace():
    x = points(50)
    exact, _ = flow.flow_log_likelihood(PLANE, COSINE, x, times=GRID, trace="exact")
    one, _ = flow.flow_log_likelihood(PLANE, COSINE, x, times=GRID, generator=0)
    many, _ = flow.flow_log_likelihood(PLANE, COSINE, x, times=GRID, probes=30, generator=0)
    assert (many - exact).square().mean() < 0.15 * (one - exact).square().mean()


def test_an_image_has_the_same_likelihood_in_any_batch():
    x, model = points(4).float(), Curved()
    four, _ = flow.flow_log_likelihood(model, COSINE, x, times=[900, 500, 50], generator=3)
    one, _ = flow.flow_log_likelihood(model, COSINE, x[:1], times=[900, 500, 50], generator=3)
    torch.testing.assert_close(four[:1], one, rtol=1e-5, atol=1e-5)
    assert four.dtype == torch.float64 and not four.requires_grad


def test_the_angle_of_each_time():
    torch.testing.assert_close(flow.angle(COSINE).cos().square(), COSINE.alpha_bar)
    zero = COSINE.rescale_zero_terminal_snr()
    assert flow.angle(zero)[-1].item() == pytest.approx(math.pi / 2) and flow.angle(zero)[0] == 0


def test_frames_on_the_way_down_and_up():
    x = initial_noise(0, 2, (3,))
    down = [frame.t for frame in flow.probability_flow(Curved(), COSINE, x, times=[900, 500, 9])]
    up = [frame.t for frame in flow.probability_flow(Curved(), COSINE, x, times=[900, 500, 9], up=True)]
    assert (down, up) == ([900, 500, 9, 0], [9, 500, 900])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"trace": "full"}, 'trace must be "hutchinson" or "exact", got'),
        ({"probes": 0}, "probes must be an integer from 1 to 10000, got 0"),
        ({"times": [500]}, "times must hold two times in 1..T or more"),
        ({"times": None, "steps": 0}, "steps must be an integer from 1"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        flow.flow_log_likelihood(PLANE, COSINE, points(2), **{"times": [500, 20], **wrong})


def test_an_exact_trace_is_refused_for_images():
    x = initial_noise(0, 2)
    with pytest.raises(
        ValueError, match='trace must be "hutchinson" for more than 64 coordinates, got "exact" for images of 784'
    ):
        flow.flow_log_likelihood(GaussianDenoiser(COSINE), COSINE, x, trace="exact")
    with pytest.raises(ValueError, match='solver must be one of "heun", "euler", "ddim"'):
        flow.probability_flow(GaussianDenoiser(COSINE), COSINE, x, times=[9, 3], solver="rk4")
