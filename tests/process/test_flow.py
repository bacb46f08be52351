"""Flow matching's mathematics against closed forms, diffusers, and DDIM."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from diffnotes.book.proof import plane
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.flow import (
    even_flow_times,
    flow_sample,
    flow_schedule,
    flow_state,
    flow_time,
    transport_pairs,
    u_from_v,
    v_from_u,
    velocity,
)
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import simple_loss
from diffnotes.process.parameterize import target_of, v_from_x0_eps
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule

COSINE, FLOW = Schedule.cosine(), flow_schedule(100)
RING = plane.Ring()
MEANS = torch.from_numpy(RING.centres)


def of_ring(schedule: Schedule) -> MixtureDenoiser:
    return MixtureDenoiser(schedule, MEANS, RING.sd**2)


@pytest.fixture
def points(generator) -> torch.Tensor:
    return torch.randn(40, 2, generator=generator, dtype=torch.float64)


# -- the schedule and the dictionary ----------------------------------------------------------------------------------------


def test_the_times_of_the_flow_schedule_are_even_in_flow_time():
    np.testing.assert_allclose(flow_time(FLOW), np.arange(101) / 100, atol=1e-12)
    assert FLOW.alpha_bar[-1] == 0


def test_flow_time_of_the_cosine_schedule_at_ten_even_steps():
    assert even_flow_times(Schedule.cosine(s=0), 10).tolist() == [1000, 930, 844, 742, 626, 500, 374, 258, 156, 70, 0]


def test_the_state_lies_on_the_straight_line_between_image_and_noise(points, generator):
    eps = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    for t in (1, 37, 100):
        expected = (1 - t / 100) * points + t / 100 * eps
        torch.testing.assert_close(flow_state(FLOW, q_sample(FLOW, points, t, eps), t), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [COSINE, FLOW, Schedule.linear()], ids=["cosine", "flow", "linear"])
def test_u_and_v_of_the_same_pair_are_turned_into_each_other(points, generator, schedule):
    eps = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    for t in (1, schedule.T // 3, schedule.T):
        x_t, v = q_sample(schedule, points, t, eps), v_from_x0_eps(schedule, points, eps, t)
        torch.testing.assert_close(u_from_v(schedule, v, x_t, t), eps - points, rtol=0, atol=1e-12)
        torch.testing.assert_close(v_from_u(schedule, eps - points, x_t, t), v, rtol=0, atol=1e-12)


def test_the_loss_of_u_is_the_loss_of_v_times_the_square_of_a_plus_b(points, generator):
    eps = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    t = torch.arange(1, 41) * 25

    class AsV:
        target = "v"

        def __call__(self, x_t, t, y=None):
            return torch.tanh(x_t)

    class AsU:
        target = "u"

        def __call__(self, x_t, t, y=None):
            return u_from_v(COSINE, torch.tanh(x_t), x_t, t)

    a, b = COSINE.alpha_bar[t].sqrt(), (1 - COSINE.alpha_bar[t]).sqrt()
    ratio = simple_loss(AsU(), COSINE, points, t, eps) / simple_loss(AsV(), COSINE, points, t, eps)
    torch.testing.assert_close(ratio, (a + b) ** 2, rtol=1e-9, atol=0)


# -- the velocity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 20, 60, 99])
def test_the_velocity_of_a_perfect_denoiser_is_that_of_the_ring_in_closed_form(points, t):
    x_t = points * (FLOW.alpha_bar[t].sqrt() + (1 - FLOW.alpha_bar[t]).sqrt())
    ours = velocity(of_ring(FLOW), FLOW, x_t, t)
    np.testing.assert_allclose(ours, RING.velocity(points.numpy(), t / 100), atol=1e-9)


def test_the_ring_s_velocity_satisfies_the_continuity_equation():
    """dp/dt + div(p u) = 0 by central differences; with prior weights in the place of the posterior's it would not."""
    x, h = np.random.default_rng(0).standard_normal((30, 2)), 1e-4
    right, up = np.array([h, 0]), np.array([0, h])
    for t in (0.2, 0.5, 0.8):
        change = (RING.density(x, t + h) - RING.density(x, t - h)) / (2 * h)

        def current(at, t=t):
            return RING.density(at, t)[:, None] * RING.velocity(at, t)

        out = (current(x + right) - current(x - right))[:, 0] + (current(x + up) - current(x - up))[:, 1]
        np.testing.assert_allclose(change + out / (2 * h), 0, atol=1e-5)


# -- sampling ---------------------------------------------------------------------------------------------------------------


def test_euler_is_ddim_step_for_step(points):
    for schedule, steps in ((FLOW, 10), (COSINE, 7)):
        model = of_ring(schedule)
        euler = list(flow_sample(model, schedule, points, steps=steps))
        ddim = list(ddim_sample(model, schedule, points, times=even_flow_times(schedule, steps)))
        assert [frame.t for frame in euler] == [frame.t for frame in ddim]
        for ours, theirs in zip(euler, ddim, strict=True):
            torch.testing.assert_close(ours.x_t, theirs.x_t, rtol=0, atol=1e-11)


def test_euler_is_the_one_of_the_ring(points):
    *_, last = flow_sample(of_ring(FLOW), FLOW, points, steps=10)
    np.testing.assert_allclose(last.x_t, RING.euler(points.numpy(), 10)[-1], atol=1e-9)


def test_euler_is_diffusers_flow_match_scheduler(points):
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=100)
    scheduler.set_timesteps(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])
    state = points
    for timestep in scheduler.timesteps:
        u = torch.from_numpy(RING.velocity(state.numpy(), timestep.item() / 100))
        state = scheduler.step(u, timestep, state).prev_sample
    *_, last = flow_sample(of_ring(FLOW), FLOW, points, steps=5)
    torch.testing.assert_close(last.x_t, state, rtol=0, atol=1e-6)


def test_gaussian_data_follow_the_closed_form(points):
    """x_t = x_1 sqrt((1 - t)^2 s^2 + t^2), at t = 0 the start times s; Heun's error falls with the square of the step."""
    schedule = flow_schedule(960)
    model, off = GaussianDenoiser(schedule, variance=0.49), {}
    for method in ("euler", "heun"):
        for steps in (60, 120, 240):
            *_, last = flow_sample(model, schedule, points, steps=steps, method=method)
            off[method, steps] = (last.x_t - 0.7 * points).abs().mean().item()
    for method, order in (("euler", 1), ("heun", 2)):
        assert math.log2(off[method, 120] / off[method, 240]) == pytest.approx(order, abs=0.1)


def test_one_step_lands_on_the_mean_of_the_data(points):
    shifted = MixtureDenoiser(FLOW, MEANS + 0.7, RING.sd**2)
    *_, last = flow_sample(shifted, FLOW, points, steps=1)
    torch.testing.assert_close(last.x_t, torch.full_like(points, 0.7), rtol=0, atol=1e-12)


def test_a_turned_sign_of_the_velocity_would_be_seen(points):
    class Turned:
        target = "u"

        def __call__(self, x_t, t, y=None):
            return -velocity(of_ring(FLOW), FLOW, x_t, t)

    *_, last = flow_sample(Turned(), FLOW, points, steps=10)
    assert last.x_t.square().sum(1).mean().sqrt() > 1.5 * RING.radius


# -- pairs ------------------------------------------------------------------------------------------------------------------


def test_transport_on_a_line_is_sorting(generator):
    x0, eps = torch.randn(2, 50, 1, generator=generator, dtype=torch.float64).unbind(0)
    order, cost = transport_pairs(x0, eps)
    torch.testing.assert_close(eps[order][x0[:, 0].argsort(), 0], eps[:, 0].sort().values)
    assert cost.item() == pytest.approx((x0.sort(0).values - eps.sort(0).values).square().mean().item(), rel=1e-12)


def test_transport_is_a_permutation_no_pair_of_which_would_gain_by_an_exchange(generator):
    x0, eps = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64).unbind(0)
    order, cost = transport_pairs(x0, eps)
    assert sorted(order.tolist()) == list(range(40))
    chosen = eps[order]
    assert cost.item() == pytest.approx((chosen - x0).square().sum(1).mean().item(), rel=1e-12)
    assert plane.never_meet(x0.numpy(), chosen.numpy())


# -- refused ----------------------------------------------------------------------------------------------------------------


def test_what_is_refused(points):
    with pytest.raises(ValueError, match=r'^method must be "euler" or "heun", got \'rk4\'$'):
        flow_sample(of_ring(FLOW), FLOW, points, steps=2, method="rk4")
    with pytest.raises(ValueError, match=r"^steps must be an integer from 1 to T = 100, got 101$"):
        flow_sample(of_ring(FLOW), FLOW, points, steps=101)
    with pytest.raises(ValueError, match=r"^steps must be fewer: 900 even steps of flow time do not have times"):
        even_flow_times(COSINE, 900)
    with pytest.raises(ValueError, match=r"^T must be an integer from 2 to 1000000, got 1$"):
        flow_schedule(1)


def test_u_is_a_prediction_target(points, generator):
    eps = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(target_of(FLOW, "u", points, eps, 100), eps - points)
