"""Noise into a ring, and the layers of RealNVP (chapter 15): exact sides, what is drawn, and what it reads out."""

import re

import numpy as np
import pytest
import torch
from pixels import sent

from diffnotes.book.explorers import build_coupling, build_flows
from diffnotes.book.explorers.coupling import states
from diffnotes.book.explorers.flows import DOTS, LINES, PAIRS, RING, arrived, at, crossed, followed, pair, straight
from diffnotes.book.live import widgets as live
from diffnotes.book.proof import plane
from diffnotes.models.coupling import RealNVP


@pytest.fixture(scope="module")
def built() -> live.Explorer:
    return build_flows()


def put(explorer: live.Explorer, **values: object) -> None:
    for name, value in values.items():
        explorer.controls[name].value = value


# -- the exact side -----------------------------------------------------------------------------------------------------


def test_the_velocity_is_bayes_rule_on_draws():
    """Pairs whose x_t falls near a place: their mean velocity."""
    rng, t, place = np.random.default_rng(0), 0.5, np.array([0.8, 0.1])
    data, noise = RING.draw(2_000_000, rng), rng.standard_normal((2_000_000, 2))
    near = np.linalg.norm((1 - t) * data + t * noise - place, axis=1) < 0.03
    draws = (noise - data)[near]
    error = draws.std(0) / np.sqrt(near.sum())
    assert near.sum() > 300
    assert (np.abs(draws.mean(0) - RING.velocity(place[None], t)[0]) < 5 * error + 0.03).all()


def test_the_density_integrates_to_one():
    side = np.linspace(-6, 6, 601)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    for t in (0.0, 0.4, 1.0):
        assert RING.density(grid, t).sum() * 0.02**2 == pytest.approx(1, abs=1e-3)


def test_the_ends_of_the_flow_are_distributed_as_the_ring():
    rng = np.random.default_rng(1)
    ends, data = RING.ends(rng.standard_normal((6000, 2))), RING.draw(6000, rng)
    assert ((np.linalg.norm(ends[:, None] - RING.centres, axis=2).min(1) < 3 * RING.sd).mean()) > 0.98
    for moment in (lambda x: x.mean(0), lambda x: (x**2).mean(0), lambda x: (x**4).mean(0)):
        np.testing.assert_allclose(moment(ends), moment(data), rtol=0.06, atol=0.1)


def test_transport_and_reflow_pairs_never_meet_and_independent_ones_do():
    met = {name: plane.never_meet(*pair(name)[::-1]) for name in PAIRS}
    assert met == {"independent": False, "transport": True, "reflow": True}


def test_meetings_are_seen():
    assert not plane.never_meet(np.array([[0.0, 0], [1, 0]]), np.array([[1.0, 0], [0, 0]]))
    assert plane.never_meet(np.array([[0.0, 0], [1, 0]]), np.array([[0.0, 1], [1, 1]]))


def test_crossings_of_drawn_lines_are_counted():
    cross = np.array([[[0.0, 0], [0, 1]], [[1, 1], [1, 0]]])  # (points, lines, 2)
    assert plane.crossings(cross) == 1
    assert plane.crossings(cross + np.array([[[0, 0], [0, 5.0]]])) == 0


# -- what is drawn ------------------------------------------------------------------------------------------------------


def test_the_pictures_begin_at_noise_and_end_at_data(explorer):
    for name in PAIRS:
        eps, x0 = pair(name)
        np.testing.assert_allclose(at(straight(name), 1.0), eps)
        np.testing.assert_allclose(at(straight(name), 0.0), x0)
        np.testing.assert_allclose(at(followed(name, 7), 1.0), eps)
        put(explorer, pairs=name, t=0.0)
        dots = np.stack(explorer.plot.artists[0].get_data(), axis=1)
        np.testing.assert_allclose(dots, x0[LINES:])
    assert len(straight("independent")[0]) == DOTS


def test_with_one_step_all_dots_land_on_the_mean_and_the_reading_says_so(explorer):
    put(explorer, steps=1, t=0.0)
    np.testing.assert_allclose(followed("independent", 1)[-1], 0, atol=1e-12)
    assert "all dots land on the mean" in explorer.reading.value and arrived("independent", 1) == 0
    put(explorer, pairs="reflow")
    assert "on the mean" not in explorer.reading.value and arrived("reflow", 1) > 0.97


def test_the_reading_gives_the_crossings_and_the_ways(explorer):
    left, right = map(int, re.findall(r"cross (\d+) times on the left and (\d+)", explorer.reading.value)[0])
    assert (left, right) == (crossed("independent", None), crossed("independent", 50))
    assert left > 10 > right
    put(explorer, pairs="transport")
    assert "cross 0 times on the left and 0 on the right" in explorer.reading.value


@pytest.mark.parametrize(("name", "value"), [("t", 0.8), ("steps", 2), ("pairs", "reflow")])
def test_every_control_moves_the_picture_and_reset_brings_it_back(explorer, name, value):
    first, reading = sent(explorer), explorer.reading.value
    put(explorer, **{name: value})
    assert (sent(explorer) != first).any()
    explorer.reset()
    assert (sent(explorer) == first).all() and explorer.reading.value == reading


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"t": 1.5}, r"^t must lie in 0\.\.1, got 1\.5$"),
        ({"steps": 0}, r"^steps must lie in 1\.\.50, got 0$"),
        ({"pairs": "sorted"}, r"^pairs must be one of 'independent', 'transport', 'reflow', got 'sorted'$"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        build_flows(**given)


# -- layers -------------------------------------------------------------------------------------------------------------


def bent() -> RealNVP:
    torch.manual_seed(0)
    model = RealNVP((2,), layers=3, hidden=8)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def test_the_states_end_where_the_model_does():
    model, x = bent(), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    points, log_dets = states(model, x)
    z, log_det = model(x)
    np.testing.assert_allclose(points[-1], z.detach(), atol=1e-6)
    assert log_dets[-1] == pytest.approx(log_det.mean().item(), abs=1e-5)
    assert len(points) == len(log_dets) == 4


def test_the_slider_moves_points_and_grid():
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    explorer = build_coupling(bent(), x, torch.arange(50) % 2, layers=0)
    first = sent(explorer)
    assert explorer.reading.value.startswith("After 0 layers, the data")
    explorer.controls["layers"].value = 3
    assert explorer.reading.value.startswith("After 3 of 3 layers") and (sent(explorer) != first).any()
    explorer.reset()
    assert (sent(explorer) == first).all()


def test_what_the_layers_explorer_refuses():
    x, y = torch.zeros(4, 2), torch.zeros(4)
    with pytest.raises(ValueError, match=r"^model must be a RealNVP of shape \(2,\), got \(3,\)$"):
        build_coupling(RealNVP((3,)), x, y)
    with pytest.raises(ValueError, match=r"^x and y must have shapes \(N, 2\) and \(N,\), got \(4, 2\) and \(3,\)$"):
        build_coupling(RealNVP((2,)), x, y[:3])
    with pytest.raises(ValueError, match=r"^layers must lie in 0\.\.8, got 9$"):
        build_coupling(RealNVP((2,)), x, y, layers=9)
