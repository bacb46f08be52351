"""Samplers that are given a measurement of the image, where the exact answer is known; slips are refuted."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.stats import multivariate_normal
from slips import refuted_by, slipped

from diffnotes.book.proof import pasted
from diffnotes.process import inverse
from diffnotes.process.exact import GaussianDenoiser, JointGaussianDenoiser, MixtureDenoiser
from diffnotes.process.forward import q_sample
from diffnotes.process.operators import Linear
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine(T=60)
RHO, NUMBER = 0.8, 6000
PAIR = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)
DENOISER = JointGaussianDenoiser(SCHEDULE, torch.zeros(2).double(), PAIR)
FIRST = Linear(torch.tensor([[1.0, 0.0]]).double())


def drawn(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def end(frames) -> torch.Tensor:
    *_, last = frames
    assert last.t == 0
    return last.x_t


# -- operators ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("A", [drawn(3, 5), drawn(4, 2) @ drawn(2, 6), drawn(6, 4)], ids=["wide", "low rank", "tall"])
def test_pseudo_inverse_and_solve_against_scipy(A):
    operator, y = Linear(A), drawn(7, len(A), 1)
    np.testing.assert_allclose(operator.pinv(y), y @ torch.from_numpy(scipy.linalg.pinv(A.numpy())).T, atol=1e-9)
    S = 0.7 * A @ A.T + 0.3**2 * torch.eye(len(A)).double()
    np.testing.assert_allclose(operator.solve(y, 0.7, 0.3), torch.linalg.solve(S, y.T).T, atol=1e-9)
    bare = y @ torch.from_numpy(scipy.linalg.pinv((0.7 * A @ A.T).numpy(), rtol=1e-10))
    np.testing.assert_allclose(operator.solve(y, 0.7, 0), bare, atol=1e-9)


def test_masks_means_and_blurs_do_what_they_say():
    x = torch.rand(2, 1, 8, 8)
    seen = torch.zeros(1, 8, 8, dtype=torch.bool)
    seen[:, :3] = True
    np.testing.assert_allclose(Linear.mask(seen).forward(x), x[:, seen])
    pooled = torch.nn.functional.avg_pool2d(x, 4).flatten(1)
    np.testing.assert_allclose(Linear.pool(8, 4).forward(x), pooled, atol=1e-6)
    np.testing.assert_allclose(Linear.pool(8, 4).pinv(pooled), pooled @ Linear.pool(8, 4).A * 16, atol=1e-5)
    blurred = Linear.blur(8, 1.0).forward(x).reshape(x.shape)
    np.testing.assert_allclose(Linear.blur(8, 1.0).forward(torch.ones(1, 1, 8, 8)), 1, atol=1e-6)
    assert blurred.std() < x.std()
    impulse = torch.zeros(1, 1, 8, 8)
    impulse[..., 4, 4] = 1
    spot = Linear.blur(8, 0.7).forward(impulse).reshape(8, 8)
    assert spot[4, 4] == spot.max() and spot[4, 5] == pytest.approx(float(spot[5, 4])) and 0 < spot[4, 6] < spot[4, 5]
    along = Linear.blur(21, 1.5).A.reshape(21, 21, 21, 21)[10, 10, 10]  # the weights of a row, far from the edges
    np.testing.assert_allclose(along / along[10], np.exp(-0.5 * ((np.arange(21) - 10) / 1.5) ** 2), atol=1e-6)


# -- the corrections ------------------------------------------------------------------------------------------------------


def check_kalman(module) -> None:
    """E[x_0 | x_t, y] of a Gaussian, by conditioning the joint distribution."""
    half, A, t = drawn(3, 3, 2), drawn(2, 3, 3), 25
    Sigma = half @ half.T
    Sigma = (Sigma + Sigma.T) / 2
    a = float(SCHEDULE.alpha_bar[t])
    ways = torch.cat([a**0.5 * torch.eye(3).double(), A])
    S = ways @ Sigma @ ways.T + torch.tensor([1 - a] * 3 + [0.4**2] * 2).double().diag()
    told = drawn(5, 5, 4)
    expected = told @ torch.linalg.solve(S, ways @ Sigma)
    model = JointGaussianDenoiser(SCHEDULE, torch.zeros(3).double(), Sigma)
    found = module.guided_x0(model, SCHEDULE, told[:, :3], t, told[:, 3:], Linear(A), 0.4, None)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def check_one_product(module) -> None:
    """For N(m, v I) one vector-Jacobian product is the Kalman step."""
    model, operator = GaussianDenoiser(SCHEDULE, mean=0.3, variance=0.6), Linear(drawn(3, 5, 5))
    x, y = drawn(4, 5, 6), drawn(4, 3, 7)
    one, full = (module.guided_x0(model, SCHEDULE, x, 25, y, operator, 0.2, v) for v in (0.6, None))
    np.testing.assert_allclose(one, full, atol=1e-9)
    noisy = x[:, :1] * 0 + 1
    assert torch.isfinite(module.guided_x0(model, SCHEDULE, x, 25, y, operator, 0.2, 0)).all() and noisy.all()


def check_nullspace(module) -> None:
    """A x = y, and of all such x the one nearest to the prediction."""
    operator, x = Linear(drawn(3, 2, 8) @ drawn(2, 6, 9)), drawn(5, 6, 10)
    y = operator.forward(drawn(5, 6, 11))
    step = module.nullspace_step(operator, y, x)
    np.testing.assert_allclose(operator.forward(step), y, atol=1e-9)
    away = step - x  # along the rows of A: nothing of it is in the null space
    np.testing.assert_allclose(away, operator.pinv(operator.forward(away)), atol=1e-9)


def check_pasting(module) -> None:
    """The replacement method and RePaint against the exact recursion."""
    known = torch.tensor([[1.0, 0.0]]).double().expand(NUMBER, 2).clone()
    for r in (1, 3):
        frames = module.repaint_sample(
            DENOISER, SCHEDULE, drawn(NUMBER, 2), known, torch.tensor([True, False]), repeats=r,
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        x = end(frames)
        mean, variance = pasted.pasted(RHO, SCHEDULE.alpha_bar.numpy(), r)
        assert (x[:, 0] == 1).all()
        assert float(x[:, 1].mean()) == pytest.approx(mean, abs=0.045)
        assert float(x[:, 1].var()) == pytest.approx(variance, abs=0.045)


def check_edit(module) -> None:
    """The closed form for Gaussian data, mean 0.5 and variance 0.3."""
    model, g, start = GaussianDenoiser(SCHEDULE, 0.5, 0.3), 2.0, 35
    frames = module.edit_sample(
        model, SCHEDULE, torch.full((NUMBER, 1), g).double(), start, generator=torch.Generator().manual_seed(0)
    )
    x, a = end(frames), float(SCHEDULE.alpha_bar[start])
    D = a * 0.3 + 1 - a
    assert float(x.mean()) == pytest.approx(0.5 + a * 0.3 / D * (g - 0.5), abs=0.03)
    assert float(x.var()) == pytest.approx(0.3 * (1 - a) / D + a * 0.09 * (1 - a) / D**2, abs=0.04)


CHECKS = {f.__name__: f for f in (check_kalman, check_one_product, check_nullspace, check_pasting, check_edit)}


def test_the_corrections_and_the_samplers_are_what_the_equations_say():
    assert refuted_by(inverse, CHECKS) == set()


@pytest.mark.parametrize(
    ("right", "wrong", "by"),
    [
        ("scale = (1 - abar) / abar**0.5", "scale = (1 - abar)", "check_kalman"),
        ("return v * (1 - abar) / (v * abar + 1 - abar)", "return v", "check_one_product"),
        ("residual = y - operator.forward(x0_hat.detach())", "residual = operator.forward(x0_hat.detach()) - y", "check_kalman"),
        ("operator.pinv(y - operator.forward(x0_hat))", "operator.transpose(y - operator.forward(x0_hat))", "check_nullspace"),
        ("pasted(x_s, s)", "pasted(x_s, t)", "check_pasting"),
        ("per_image((1 - ratio).sqrt(), x_s) * eps", "per_image(1 - ratio, x_s) * eps", "check_pasting"),
        ("x_start = q_sample(schedule, guide, start, noise.like(guide))", "x_start = guide", "check_edit"),
    ],
)  # fmt: skip
def test_slips_are_refuted(right, wrong, by):
    assert by in refuted_by(slipped(inverse, right, wrong), CHECKS)


# -- the samplers ---------------------------------------------------------------------------------------------------------


def test_the_recursion_tends_to_the_closed_form_and_agrees_with_a_simulation():
    for rho in (0.3, 0.8):
        np.testing.assert_allclose(pasted.pasted(rho, pasted.cosine(4000)), pasted.limit(rho), atol=2e-3)
    np.testing.assert_allclose(pasted.cosine(60), Schedule.cosine(T=60).alpha_bar, atol=1e-12)


def test_guidance_reaches_the_posterior_and_the_null_space_step_does_not():
    x_T, y, g = drawn(NUMBER, 2), torch.ones(NUMBER, 1).double(), torch.Generator().manual_seed(2)
    kalman = end(inverse.guided_sample(DENOISER, SCHEDULE, x_T, y, FIRST, 0.01, prior_variance=None, generator=g))
    assert float(kalman[:, 1].mean()) == pytest.approx(0.8, abs=0.03)
    assert float(kalman[:, 1].var()) == pytest.approx(0.36, abs=0.06)
    null = end(inverse.nullspace_sample(DENOISER, SCHEDULE, x_T, y, FIRST, eta=1, generator=g))
    np.testing.assert_allclose(null[:, 0], 1, atol=1e-9)
    assert float(null[:, 1].mean()) == pytest.approx(0.5, abs=0.04)
    sure = end(inverse.dps_sample(DENOISER, SCHEDULE, x_T, y, FIRST, step=0.3, generator=g))
    assert float(sure[:, 1].mean()) > 0.85


def test_dps_is_the_same_for_one_image_and_for_many():
    """One norm for each image, not one of the whole batch."""
    x_T, y = drawn(8, 2), torch.ones(8, 1).double()
    way = dict(step=0.5, eta=0, generator=0)
    many = end(inverse.dps_sample(DENOISER, SCHEDULE, x_T, y, FIRST, **way))
    one = end(inverse.dps_sample(DENOISER, SCHEDULE, x_T[:1], y[:1], FIRST, **way))
    np.testing.assert_allclose(many[:1], one, atol=1e-12)


def test_repaint_pastes_as_the_scheduler_of_diffusers_does():
    """One step of RePaintScheduler, with the same noise for the hidden part: root and time are those of the published code."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.RePaintScheduler(
        num_train_timesteps=60, trained_betas=SCHEDULE.beta[1:].numpy(), eta=0.0, clip_sample=False
    )
    scheduler.set_timesteps(60, jump_length=1, jump_n_sample=1)
    original, mask = torch.full((4000, 1, 1, 1), 0.7), torch.ones(4000, 1, 1, 1)
    x = torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    step = scheduler.step(torch.zeros_like(x), 30, x, original, mask, generator=torch.Generator().manual_seed(4))
    theirs = step.prev_sample
    ours = q_sample(SCHEDULE, original, 30, torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(5)))
    assert float(theirs.mean()) == pytest.approx(float(ours.mean()), abs=0.05)
    assert float(theirs.std()) == pytest.approx(float(ours.std()), abs=0.03)


def test_the_seen_part_of_every_state_is_the_known_image_noised_also_of_the_first():
    schedule = Schedule.linear(T=20)  # far from pure noise at its end
    model = JointGaussianDenoiser(schedule, torch.zeros(2).double(), PAIR)
    x_T, known = drawn(NUMBER, 2), torch.full((NUMBER, 2), 5.0).double()
    frames = inverse.repaint_sample(model, schedule, x_T, known, torch.tensor([True, False]), steps=4, generator=0)
    for frame in frames:
        a = float(schedule.alpha_bar[frame.t])
        assert float(frame.x_t[:, 0].mean()) == pytest.approx(5 * a**0.5, abs=0.05)
        assert float(frame.x_t[:, 0].var()) == pytest.approx(1 - a, abs=0.05)
        assert frame.t < 20 or torch.equal(frame.x_t[:, 1], x_T[:, 1])


def test_with_clip_a_corrected_prediction_stays_among_the_greys():
    x_T, y = 3 * drawn(50, 2), torch.full((50, 1), 1.5).double()
    ways = {
        "guided": lambda clip: inverse.guided_sample(
            DENOISER, SCHEDULE, x_T, y, FIRST, 0.1, prior_variance=1, clip=clip
        ),
        "dps": lambda clip: inverse.dps_sample(DENOISER, SCHEDULE, x_T, y, FIRST, step=0.3, clip=clip),
    }
    for name, way in ways.items():
        largest = [max(float(frame.x0_hat.abs().max()) for frame in list(way(clip))[:-1]) for clip in (False, True)]
        assert largest[0] > 1.2 and largest[1] == 1, name


def test_nothing_is_drawn_before_the_first_frame_is_asked_for():
    """Samplers that share a generator draw in the order in which they run, not in that in which they were made."""
    x_T, known, seen, y = drawn(3, 2), drawn(3, 2, 1), torch.tensor([True, False]), drawn(3, 1, 2)
    g = torch.Generator().manual_seed(0)
    begin = g.get_state()
    samplers = [
        inverse.repaint_sample(DENOISER, SCHEDULE, x_T, known, seen, generator=g),
        inverse.nullspace_sample(DENOISER, SCHEDULE, x_T, y, FIRST, generator=g),
        inverse.dps_sample(DENOISER, SCHEDULE, x_T, y, FIRST, step=0.3, generator=g),
    ]
    assert torch.equal(g.get_state(), begin)
    for frames in samplers:
        before = g.get_state()
        next(frames)
        assert not torch.equal(g.get_state(), before)


# -- the exact answer -----------------------------------------------------------------------------------------------------


def test_the_posterior_of_a_mixture_is_bayes_rule():
    means, A, y, v, sigma = drawn(3, 4, 20), drawn(2, 4, 21), drawn(1, 2, 22), 0.5, 0.6
    w = torch.tensor([0.2, 0.5, 0.3]).double()
    share, moved, C = inverse.posterior_mixture(means, v, Linear(A), y, sigma, w)
    x = drawn(50, 4, 23).numpy()
    eye = np.eye(4)
    prior = sum(float(p) * multivariate_normal(m, v * eye).pdf(x) for p, m in zip(w, means.numpy(), strict=True))
    likelihood = multivariate_normal(y[0].numpy(), sigma**2 * np.eye(2)).pdf(x @ A.numpy().T)
    found = sum(float(p) * multivariate_normal(m, C).pdf(x) for p, m in zip(share[0], moved[0].numpy(), strict=True))
    ratio = prior * likelihood / found
    np.testing.assert_allclose(ratio / ratio[0], 1, rtol=1e-6)


def test_of_a_finite_set_the_draws_are_its_images_by_their_weights():
    images = drawn(4, 3, 24)
    operator, y = Linear(torch.eye(3).double()[:1]), torch.tensor([[0.2]]).double()
    draws = inverse.exact_draws(images, operator, y, 0.5, 4000, torch.Generator().manual_seed(0))[0]
    expected = (-((images[:, 0] - 0.2) ** 2) / (2 * 0.5**2)).softmax(0)
    share = torch.stack([(draws == image).all(1).double().mean() for image in images])
    np.testing.assert_allclose(share, expected, atol=0.04)


def test_a_joint_gaussian_denoiser_is_the_isotropic_one_where_it_should_be():
    x = drawn(6, 3, 25)
    plain = GaussianDenoiser(SCHEDULE, 0.4, 0.7)(x, 20)
    joint = JointGaussianDenoiser(SCHEDULE, torch.full((3,), 0.4).double(), 0.7 * torch.eye(3).double())
    np.testing.assert_allclose(joint(x, 20), plain, atol=1e-12)
    mixture = MixtureDenoiser(SCHEDULE, torch.full((1, 3), 0.4).double(), 0.7)
    np.testing.assert_allclose(joint(x, torch.full((6,), 20)), mixture(x, 20), atol=1e-12)


# -- what is refused ------------------------------------------------------------------------------------------------------


def test_what_is_refused():
    x, y = drawn(2, 2), torch.ones(2, 1).double()
    with pytest.raises(ValueError, match=r"^A must have at most 10,000 columns, got 10,001"):
        Linear(torch.zeros(1, 10_001))
    with pytest.raises(ValueError, match=r"^factor must divide size, got 3 and 8$"):
        Linear.pool(8, 3)
    with pytest.raises(ValueError, match=r"^seen must be True for at least one pixel, got none$"):
        Linear.mask(torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^x must be images of 2 numbers, the columns of A, got \(2, 3\)$"):
        FIRST.forward(drawn(2, 3))
    with pytest.raises(ValueError, match=r"^r2 and sigma_y must not both be 0"):
        FIRST.solve(y, 0, 0)
    with pytest.raises(ValueError, match=r"^y must hold one row for each of the 2 images, got 1$"):
        inverse.nullspace_sample(DENOISER, SCHEDULE, x, y[:1], FIRST)
    with pytest.raises(ValueError, match=r"^seen must have the shape of one image, \(2,\), got \(3,\)$"):
        inverse.repaint_sample(DENOISER, SCHEDULE, x, x, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^start must be an integer from 1 to T = 60, got 61$"):
        inverse.edit_sample(DENOISER, SCHEDULE, x, 61)
    with pytest.raises(ValueError, match=r"^sigma_y must be > 0 where variance is 0, got 0$"):
        inverse.posterior_mixture(x, 0, FIRST, y, 0)
